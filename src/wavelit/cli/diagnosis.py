"""`wavelit diagnose`: what a dataset is like, and what to start from."""

from __future__ import annotations

from typing import Any

from wavelit.cli.datasets import add_dataset
from wavelit.cli.output import LONGEST, print_lines
from wavelit.errors import printable

__all__ = ["diagnose"]


def diagnose(parser: Any, words: list[str]) -> None:
    add_dataset(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of windows")
    parser.add_argument(
        "--results", type=str, default="results/transfer", help="folder of measured transfers"
    )
    parser.add_argument(
        "--json", type=str | None, default=None, help="file that the descriptors are written to"
    )
    options = parser.parse_args(words)
    from wavelit.evaluation.diagnosis import diagnose, write_descriptors

    found = diagnose(
        options.path,
        results=options.results,
        seed=options.seed,
        mask_field=options.mask_field,
        mask_excludes=options.mask_excludes,
    )
    for line in str(found).splitlines():
        print(printable(line, LONGEST))
    if options.json is not None:
        print_lines(f"wrote {write_descriptors(found.descriptors, options.json)}")
