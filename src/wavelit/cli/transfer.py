"""`wavelit transfer`: one model for several systems, measured against one for each."""

from __future__ import annotations

from typing import Any

from wavelit.cli.output import print_lines

__all__ = ["transfer"]


def transfer(parser: Any, words: list[str]) -> None:
    """What the command line asks for; every result is a JSON, and what is there is not run
    again.
    """
    parser.add_argument(
        "stage",
        type=str,
        help="rates: what a sample takes on systems of which that is not known; cost: what a joint "
        "step takes; joint: one model for all systems; control: the same with a trunk of its own "
        "for each; tuned: a joint model trained on with all of one of its systems; few: a few "
        "trajectories, from the joint model and from scratch; pairs: likewise from a model of one "
        "other system; map: what the pairs say; test: score what is trained on the test split, "
        "once",
    )
    parser.add_argument(
        "--config", type=str, default="configs/joint/pocketwell.yaml", help="the joint training"
    )
    parser.add_argument(
        "--minutes",
        type=float | None,
        default=None,
        help="core-minutes of a run; 40 if absent, 1 of tuned, few and pairs",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the runs")
    parser.add_argument(
        "--without",
        type=str,
        nargs="+",
        default=[],
        help="leave a system out: one run for each that is named",
    )
    parser.add_argument(
        "--targets",
        type=str,
        nargs="+",
        default=[],
        help="systems that are fine-tuned on, or of which a few trajectories are given",
    )
    parser.add_argument(
        "--trajectories",
        type=str,
        nargs="+",
        default=[],
        help="how many of them; 1, 4 and all if absent, 4 of pairs",
    )
    parser.add_argument(
        "--source",
        type=str,
        default="40min/joint-0",
        help="joint run that tuned and few start from, or joint-1M, which comes with the package",
    )
    parser.add_argument(
        "--stability",
        type=float | None,
        default=None,
        help="that entry of the recipe of tuned, few and pairs; the configuration's if absent",
    )
    parser.add_argument(
        "--root", type=str, default="datasets/pocketwell/small", help="folder of the datasets"
    )
    parser.add_argument(
        "--output", type=str, default="results/transfer", help="folder of the results"
    )
    parser.add_argument("--runs", type=str, default="runs/transfer", help="folder of the runs")
    parser.add_argument(
        "--tuning", type=str, default="results/accuracy", help="folder of the rates of nano"
    )
    options = parser.parse_args(words)
    from wavelit.benchmarks.transfer import run

    for path in run(**vars(options)):
        print_lines(path)
