"""`wavelit demo`, `evaluate`, `compare` and `rollout`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from wavelit.cli.output import print_lines, print_scores, print_tables
from wavelit.cli.words import refuse_given
from wavelit.errors import WavelitError

__all__ = ["add_system", "compare", "demo", "evaluate", "rollout"]


def demo(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "system", nargs="?", default="acoustic_scattering_maze", help="PocketWell system"
    )
    parser.add_argument(
        "--run", type=str | None, default=None, help="run folder; runs/demo-<system> if absent"
    )
    parser.add_argument(
        "--root", type=str, default="datasets/pocketwell", help="where datasets are kept"
    )
    parser.add_argument("--size", type=str, default="small", help="tiny, small or large")
    parser.add_argument(
        "--minutes", type=float | None, default=None, help="minutes of training; 3.5 if absent"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args(words)
    import dataclasses

    from wavelit.demo import DEMO, demo

    train = DEMO
    if options.minutes is not None:
        train = dataclasses.replace(DEMO, minutes=options.minutes)
    evaluation, report = demo(
        options.system, options.run, options.size, options.root, train, threads=options.threads
    )
    print_scores(evaluation, report)


def _add_scoring(parser: Any) -> None:
    parser.add_argument(
        "--split", type=Literal["valid", "test"], default="valid", help="split to score"
    )
    parser.add_argument(
        "--weights", type=Literal["final", "best"], default="final", help="final or best validation"
    )
    _add_data(parser)
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, ...")
    _add_orientation(parser)


def _add_data(parser: Any) -> None:
    parser.add_argument(
        "--data", type=str | None, default=None, help="another dataset folder with the same fields"
    )


def _add_orientation(parser: Any) -> None:
    parser.add_argument(
        "--orientation",
        type=str | None,
        default=None,
        help="axes to the right and upwards in maps, such as longitude,latitude; their names "
        "decide if absent",
    )


def _add_fields(parser: Any) -> None:
    parser.add_argument(
        "--field",
        type=str,
        nargs="+",
        default=None,
        help="fields to draw; the first if absent",
    )
    parser.add_argument(
        "--out", type=str | None, default=None, help="folder for the files; the run if absent"
    )


def evaluate(parser: Any, words: list[str]) -> None:
    parser.add_argument("run", type=str, help="run folder, or with --data a model by its name")
    _add_scoring(parser)
    parser.add_argument(
        "--starts",
        type=int | None,
        default=None,
        help="rollouts of each record, evenly spaced; one, or several of a split that is cut in "
        "time, if absent",
    )
    parser.add_argument(
        "--records",
        type=str | None,
        default=None,
        help=".parquet or .csv file of every score by emulator, rollout, step and field",
    )
    parser.add_argument(
        "--symmetries",
        type=str | None,
        default=None,
        help='only say which of these the model\'s system has, such as "shift, flip:x"',
    )
    _add_fields(parser)
    add_system(parser)
    options = parser.parse_args(words)
    if options.symmetries is not None:
        beside = ("field", "starts", "out", "records", "orientation")
        refuse_given(parser, options, beside, "changes nothing of what --symmetries says")
        _print_symmetries(options)
        return
    from wavelit.evaluation.evaluate_run import evaluate_run
    from wavelit.evaluation.records import records_path, write_records
    from wavelit.model.pretrained import holds_model
    from wavelit.training.joint_folder import systems_of

    if options.system is None and len(systems_of(options.run)) > 1:
        _evaluate_joint(options)
        return
    records = None if options.records is None else records_path(options.records)
    report: Path | None = None
    if holds_model(options.run):
        without = ("weights", "field", "out", "orientation")
        refuse_given(parser, options, without, "is for runs, and this is a model by its name")
        evaluation = _evaluate_model(options)
    else:
        evaluation, report = evaluate_run(
            options.run,
            options.split,
            options.weights,
            options.data,
            options.device,
            field=options.field,
            starts=options.starts,
            out=options.out,
            orientation=options.orientation,
            system=options.system,
        )
    print_scores(evaluation, report)
    if records is not None:
        print_lines(f"records: {write_records(records, evaluation)}")


def _evaluate_model(options: Any) -> Any:
    """Scores of a model that is no run, without a report."""
    from wavelit.api import evaluate

    return evaluate(
        options.run,
        options.data,
        options.split,
        device=options.device,
        starts=options.starts,
        stencil=True,
        system=options.system,
    )


def _print_symmetries(options: Any) -> None:

    from wavelit.evaluation.opened_run import chosen_device, open_run
    from wavelit.evaluation.symmetry import describe_ratios, symmetry_ratios

    device, run = chosen_device(options.device), Path(options.run)
    model, data, _ = open_run(
        run, options.weights, options.data, options.split, system=options.system
    )
    ratios = symmetry_ratios(model.to(device), data, options.symmetries, options.split, device)
    for line in describe_ratios(ratios):
        print_lines(line)


def add_system(parser: Any) -> None:
    """The system of a joint model."""
    parser.add_argument(
        "--system", type=str | None, default=None, help="of a joint run of several, the system"
    )


def _evaluate_joint(options: Any) -> None:
    """A table for every system; fields and their pictures are for one."""
    from wavelit.evaluation.joint_runs import evaluate_systems

    for name in ("data", "field", "orientation", "records"):
        if getattr(options, name) is not None:
            raise WavelitError(
                f"--{name} is for one system: {options.run} is a joint run, name one by --system"
            )
    scores = evaluate_systems(
        options.run,
        options.split,
        options.weights,
        options.device,
        starts=options.starts,
        out=options.out,
    )
    for evaluation in scores.values():
        print_scores(evaluation, None)


def compare(parser: Any, words: list[str]) -> None:
    parser.add_argument("runs", type=str, nargs="+", help="run folders, one to six")
    parser.add_argument(
        "--report", type=str | None, default=None, help="HTML file that plays their rollouts"
    )
    parser.add_argument(
        "--start",
        type=int | None,
        default=None,
        help="true states before the first that is predicted; the longest history if absent",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="print published figures of The Well's benchmarks beside the scores",
    )
    _add_scoring(parser)
    add_system(parser)
    options = parser.parse_args(words)
    from wavelit.evaluation.compare_runs import compare_runs, published_tables

    evaluation = compare_runs(
        options.runs,
        options.split,
        options.weights,
        options.data,
        options.device,
        options.report,
        options.orientation,
        options.start,
        options.system,
    )
    print_scores(evaluation, options.report)
    if options.published:
        data, system = options.data, options.system
        tables = published_tables(options.runs, evaluation, options.weights, data, system)
        print_tables(tables)


def rollout(parser: Any, words: list[str]) -> None:
    parser.add_argument("run", type=str | None, nargs="?", default=None, help="run folder")
    parser.add_argument(
        "--pretrained",
        type=str | None,
        default=None,
        help="PocketWell system: its model from the package instead of a run",
    )
    parser.add_argument(
        "--output",
        type=str,
        default="runs/pretrained",
        help="folder for the rollouts of pretrained models",
    )
    parser.add_argument(
        "--split", type=Literal["train", "valid", "test"], default="valid", help="split to roll out"
    )
    parser.add_argument("--trajectory", type=int, default=0, help="its number in the split")
    _add_data(parser)
    _add_fields(parser)
    parser.add_argument(
        "--weights", type=Literal["final", "best"], default="final", help="final or best validation"
    )
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, ...")
    _add_orientation(parser)
    add_system(parser)
    options = parser.parse_args(words)
    if (options.run is None) == (options.pretrained is None):
        raise WavelitError("name a run folder, or a system with --pretrained, and not both")
    if options.run is not None:
        refuse_given(parser, options, ("output",), "is for --pretrained, and --out for a run")
    if options.pretrained is not None:
        refuse_given(
            parser,
            options,
            ("split", "trajectory", "weights", "out", "orientation", "system", "data"),
            "is for run folders: a pretrained model has one trajectory, of the validation split, "
            "whose files go to --output",
        )
        from wavelit.evaluation.evaluate_run import record_pretrained_rollout

        paths = record_pretrained_rollout(
            options.pretrained, options.output, options.field, options.device
        )
    else:
        from wavelit.evaluation.evaluate_run import record_rollout

        paths = record_rollout(
            options.run,
            options.split,
            options.trajectory,
            options.field,
            options.weights,
            options.device,
            out=options.out,
            orientation=options.orientation,
            system=options.system,
            data=options.data,
        )
    for path in paths:
        print_lines(path)
