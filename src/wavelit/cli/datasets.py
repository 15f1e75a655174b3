"""`wavelit data`: generate, fetch, convert, check, describe and cut datasets."""

from __future__ import annotations

from typing import Any

from wavelit.cli.output import LONGEST, print_lines
from wavelit.cli.words import ALL, named_systems
from wavelit.errors import WavelitError, printable

__all__ = [
    "add_dataset",
    "data_check",
    "data_convert",
    "data_download",
    "data_generate",
    "data_info",
    "data_subset",
]


def data_generate(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "systems",
        nargs="+",
        help="names of systems, 'pocketwell' for all of them; or ostia_monthly",
    )
    parser.add_argument(
        "--size", type=str, default="small", help="tiny, small, large, double, or full"
    )
    parser.add_argument(
        "--root", type=str, default="datasets/pocketwell", help="where datasets are kept"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws")
    parser.add_argument(
        "--processes", type=int | None, default=None, help="worker processes; all cores if absent"
    )
    parser.add_argument("--force", action="store_true", help="compute anew what is there")
    options = parser.parse_args(words)
    from wavelit.checks.arguments import require_name
    from wavelit.data.ostia import NAME, generate_ostia
    from wavelit.data.pocketwell import SYSTEMS, generate

    for system in options.systems:
        # Before any is computed.
        require_name("systems", system, [ALL, *SYSTEMS, NAME])
    for system in named_systems(options.systems):
        if system == NAME:
            print_lines(generate_ostia(options.root, force=options.force))
            continue
        folder = generate(
            system, options.size, options.root, options.seed, options.processes, force=options.force
        )
        print_lines(folder)


def data_convert(parser: Any, words: list[str]) -> None:
    parser.add_argument("files", nargs="+", help="NetCDF files or zarr stores, one record each")
    parser.add_argument("--to", type=str, help="folder of the dataset", required=True)
    parser.add_argument(
        "--boundary_conditions",
        nargs="+",
        required=True,
        help="per axis: periodic, wall, open, or two for its sides, as in wall,open",
    )
    parser.add_argument(
        "--name", type=str | None, default=None, help="of the dataset; the folder's if absent"
    )
    parser.add_argument(
        "--fields", nargs="+", help="variables that vary in time; all that do if absent"
    )
    parser.add_argument("--constant_fields", nargs="+", default=[], help="variables that do not")
    parser.add_argument(
        "--scalars", nargs="+", default=[], help="variables or attributes, one number a record"
    )
    parser.add_argument(
        "--dims", nargs="+", default=[], help="dimensions to be renamed, as in case=trajectory"
    )
    parser.add_argument(
        "--mask_field", type=str | None, default=None, help="variable that marks excluded cells"
    )
    parser.add_argument(
        "--mask_excludes", type=float, default=1.0, help="its value on the cells that do not count"
    )
    parser.add_argument(
        "--mask_from",
        type=str | None,
        default=None,
        help="variable whose missing cells, in its first frame, are excluded; they are written as "
        "the mask_field",
    )
    parser.add_argument(
        "--splits", nargs="+", type=int, help="records of train, valid and test, as in 8 1 1"
    )
    parser.add_argument(
        "--split_in_time", nargs="+", type=float, help="shares of time instead, as in 0.8 0.1 0.1"
    )
    parser.add_argument("--gap", type=int, default=4, help="frames left out between these")
    parser.add_argument(
        "--equal_steps", action="store_true", help="take an irregular time axis as regular"
    )
    options = parser.parse_args(words)
    from wavelit.data.format.folder import SPLITS
    from wavelit.data.writing.convert import convert

    dims = dict(word.partition("=")[::2] for word in options.dims)
    if strange := [word for word in options.dims if "=" not in word]:
        raise WavelitError(f"--dims: expected OLD=NEW, got '{printable(strange[0], 60)}'")
    splits = options.splits
    if splits is not None and len(splits) == len(SPLITS):
        splits = dict(zip(SPLITS, splits, strict=True))
    folder = convert(
        options.files,
        options.to,
        boundary_conditions=[
            tuple(word.split(",")) if "," in word else word for word in options.boundary_conditions
        ],
        name=options.name,
        fields=options.fields,
        constant_fields=options.constant_fields,
        scalars=options.scalars,
        dims=dims,
        mask_field=options.mask_field,
        mask_from=options.mask_from,
        mask_excludes=options.mask_excludes,
        splits=splits,
        split_in_time=options.split_in_time,
        gap=options.gap,
        equal_steps=options.equal_steps,
    )
    print_lines(folder)


def add_dataset(parser: Any) -> None:
    """A dataset's folder, and which of its cells count."""
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
    add_dataset(parser)
    parser.add_argument("--write-statistics", action="store_true", help="compute stats.yaml first")
    parser.add_argument(
        "--sample",
        type=int | None,
        default=None,
        help="trajectories of each file to read, evenly spread; all if absent",
    )
    options = parser.parse_args(words)
    from wavelit.data.checking.check import check_dataset
    from wavelit.data.statistics import write_statistics

    mask = {"mask_field": options.mask_field, "mask_excludes": options.mask_excludes}
    if options.write_statistics:
        print_lines(f"wrote {write_statistics(options.path, **mask)}")
    findings = check_dataset(options.path, **mask, sample=options.sample)
    for finding in findings:
        print(printable(f"{finding.severity}: {finding.file}: {finding.message}", LONGEST))
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise WavelitError(f"{options.path}: {errors} error(s)")
    read = (
        ""
        if options.sample is None
        else f"; of each file {options.sample} trajectories at most were read, and stats.yaml was "
        "not compared with them"
    )
    print_lines(f"{options.path}: no errors, {len(findings)} warning(s){read}")


def data_info(parser: Any, words: list[str]) -> None:
    add_dataset(parser)
    options = parser.parse_args(words)
    from wavelit.data.checking.describe import describe_dataset

    summary = describe_dataset(options.path, options.mask_field, options.mask_excludes)
    for name, value in vars(summary).items():
        print(printable(f"{name.replace('_', ' '):20s} {value}", LONGEST))


def data_download(parser: Any, words: list[str]) -> None:
    parser.add_argument("system", type=str, help="dataset of The Well, such as shear_flow")
    parser.add_argument("--to", type=str, default="datasets", help="folder of the datasets")
    parser.add_argument("--splits", nargs="+", type=str, default=["train", "valid", "test"])
    parser.add_argument("--files", type=int | None, default=None, help="the first of each split")
    parser.add_argument("--sizes", action="store_true", help="say what there is, fetch nothing")
    options = parser.parse_args(words)
    from wavelit.data.download import find_download

    found = find_download(options.system, options.to, options.splits, options.files)
    print_lines(found)
    if not options.sizes:
        print_lines(f"{found.run()} is whole; `wavelit data check {found.folder} --sample 1`")


def data_subset(parser: Any, words: list[str]) -> None:
    add_dataset(parser)
    parser.add_argument("--to", type=str, required=True, help="folder of the new dataset")
    parser.add_argument("--files", type=int | None, default=None, help="of each split")
    parser.add_argument("--trajectories", type=int | None, default=None, help="of each file")
    parser.add_argument("--steps", type=int | None, default=None, help="states of each trajectory")
    options = parser.parse_args(words)
    from wavelit.data.writing.subset import write_subset

    print_lines(
        write_subset(
            options.path,
            options.to,
            files=options.files,
            trajectories=options.trajectories,
            steps=options.steps,
            mask_field=options.mask_field,
            mask_excludes=options.mask_excludes,
        )
    )
