"""`wavelit export`."""

from __future__ import annotations

from typing import Any, Literal

from wavelit.cli.output import print_lines
from wavelit.cli.runs import add_system

__all__ = ["export"]


def export(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "model", type=str, help="run folder, PocketWell system, or folder of a saved model"
    )
    parser.add_argument("out", type=str, help="the file, .pt2 for PyTorch or .onnx for others")
    parser.add_argument(
        "--resolution",
        type=int,
        nargs="+",
        default=None,
        help="points per axis; of a run those of its data if absent",
    )
    parser.add_argument(
        "--weights", type=Literal["final", "best"], default="final", help="final or best validation"
    )
    add_system(parser)
    options = parser.parse_args(words)
    from wavelit.api import export as write

    path, difference = write(
        options.model,
        options.out,
        options.resolution,
        weights=options.weights,
        system=options.system,
    )
    print_lines(
        f"{path}: one step; differs from the model by at most {difference:.1e} standard deviations "
        "of a field, on random inputs"
    )
