"""`wavelit data`: generate, check and describe datasets."""

from __future__ import annotations

from typing import Any

from wavelit.cli.output import LONGEST
from wavelit.errors import WavelitError, printable

__all__ = ["data_check", "data_generate", "data_info"]


def data_generate(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "systems", nargs="+", help="systems, 'pocketwell' for all of them, ostia_monthly"
    )
    parser.add_argument("--size", type=str, default="small", help="tiny, small or large")
    parser.add_argument(
        "--root", type=str, default="datasets/pocketwell", help="where datasets are kept"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws")
    parser.add_argument(
        "--processes", type=int | None, default=None, help="worker processes; all cores if absent"
    )
    parser.add_argument("--force", action="store_true", help="compute anew what is there")
    options = parser.parse_args(words)
    from wavelit.data.ostia import NAME, generate_ostia
    from wavelit.data.pocketwell import SYSTEMS, generate

    systems = list(SYSTEMS) if options.systems == ["pocketwell"] else options.systems
    for system in systems:
        if system == NAME:
            print(generate_ostia(options.root, force=options.force))
            continue
        folder = generate(
            system, options.size, options.root, options.seed, options.processes, force=options.force
        )
        print(folder)


def _add_dataset(parser: Any) -> None:
    parser.add_argument("path", type=str, help="dataset folder, local or any fsspec address")
    parser.add_argument(
        "--mask_field",
        type=str | None,
        default=None,
        help="constant field that tells which cells count; the one declared if absent",
    )
    parser.add_argument(
        "--mask_excludes", type=float, default=1.0, help="its value on the cells that do not"
    )


def data_check(parser: Any, words: list[str]) -> None:
    _add_dataset(parser)
    parser.add_argument("--write-statistics", action="store_true", help="compute stats.yaml first")
    options = parser.parse_args(words)
    from wavelit.data.checking.check import check_dataset
    from wavelit.data.statistics import write_statistics

    mask = {"mask_field": options.mask_field, "mask_excludes": options.mask_excludes}
    if options.write_statistics:
        print(f"wrote {write_statistics(options.path, **mask)}")
    findings = check_dataset(options.path, **mask)
    for finding in findings:
        print(printable(f"{finding.severity}: {finding.file}: {finding.message}", LONGEST))
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise WavelitError(f"{options.path}: {errors} error(s)")
    print(f"{options.path}: no errors, {len(findings)} warning(s)")


def data_info(parser: Any, words: list[str]) -> None:
    _add_dataset(parser)
    options = parser.parse_args(words)
    from wavelit.data.checking.describe import describe_dataset

    summary = describe_dataset(options.path, options.mask_field, options.mask_excludes)
    for name, value in vars(summary).items():
        print(printable(f"{name.replace('_', ' '):20s} {value}", LONGEST))
