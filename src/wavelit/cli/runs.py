"""`wavelit demo`, `train`, `evaluate`, `compare` and `rollout`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from wavelit.cli.output import print_lines, print_scores, print_tables
from wavelit.cli.words import refuse_given
from wavelit.errors import WavelitError

__all__ = ["add_system", "compare", "demo", "evaluate", "rollout", "train"]


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


def train(parser: Any, words: list[str]) -> None:
    from wavelit.api import fit, load, resume
    from wavelit.checks.arguments import require_path
    from wavelit.cli.joint import JOINT_ALONE, names_several, train_joint
    from wavelit.cli.options import (
        TYPED,
        TypeNames,
        architecture,
        budgets,
        expand,
        mapping,
        rename_options,
        require_plain,
        value_of,
        without,
    )
    from wavelit.data.datamodule import WellDataModule
    from wavelit.model.config import PRESETS, WaveLiTConfig
    from wavelit.model.joint_config import JOINT_PRESETS
    from wavelit.training.config import TrainConfig, TrainerConfig
    from wavelit.training.rank_zero import is_first
    from wavelit.training.run import build_model

    def done(folder: Path) -> None:
        if is_first():
            print_lines(f"trained: {folder}; score it with `wavelit evaluate {folder}`")

    if value_of(words, "--resume") == "auto":
        if (run := value_of(words, "--run")) is None:
            raise WavelitError("--resume auto needs --run: the folder that a second start finds")
        if "--overwrite" in words:
            raise WavelitError(
                "--overwrite removes the run that --resume auto goes on with: leave one of them out"
            )
        folder = require_path("run", run)
        if _goes_on_with(folder):
            done(folder)
            return
        words = without(words, "--resume")
    if names_several(words):
        done(train_joint(words))
        return
    groups = {
        "data": WellDataModule,
        "model": WaveLiTConfig,
        "train": TrainConfig,
        "trainer": TrainerConfig,
    }
    words = expand(words, groups)
    parser.formatter_class = TypeNames
    if any(word.split("=")[0] == "--resume" for word in words):
        # Its settings are in its folder: a second setting beside it would be ignored, so none but a
        # larger budget is accepted.
        parser.add_argument("--resume", type=str)
        for name, number in (("steps", int), ("samples", int), ("minutes", float)):
            parser.add_argument(f"--train.{name}", type=number | None, default=None)
        options = parser.parse_args(rename_options(words, groups))
        folder = require_path("resume", options.resume)
        resume(folder, **vars(options.train))
        done(folder)
        return
    parser.description = (
        "`wavelit train DATA --minutes 5`: a dataset's folder, and options, whose group may be "
        "left out of their names. With --resume RUN, --steps, --samples or --minutes extend the "
        "run; nothing else may be given. With --run RUN --resume auto the same command starts a "
        "run and goes on with it."
    )
    parser.add_argument("--config", action="config", help="YAML file of these options")
    parser.add_argument(
        "--run",
        type=str | None,
        default=None,
        help="new run folder; runs/<dataset>-<preset> if absent",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the run that the folder holds"
    )
    parser.add_argument(
        "--resume", type=str | None, default=None, help="run folder to continue, or auto"
    )
    parser.add_argument(
        "--from",
        type=str | None,
        default=None,
        help="model to fine-tune: a run folder, a PocketWell system or a saved model; what fits is "
        "kept by name. A joint model too, which takes --system NAME to start from, --trunk free, "
        "frozen or low-rank, --trunk_lr and --rank",
    )
    parser.add_argument(
        "--keep_statistics",
        action="store_true",
        help="with --from: keep the model's statistics and calibration, not those of the data",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data order and noise")
    # What is typed as anything, the parser takes for the name of a class to import and to call.
    parser.add_class_arguments(
        WellDataModule, "data", skip={"seed", "n_steps_output", "storage_options"}
    )
    parser.add_argument(
        "--data.paths",
        type=str,
        nargs="+",
        default=None,
        help="several dataset folders in place of one: a joint model, whose presets are "
        f"{', '.join(JOINT_PRESETS)}",
    )
    parser.add_argument(
        "--data.storage_options",
        type=mapping,
        default=None,
        help="what fsspec needs to open the address, as YAML: {key: value}",
    )
    parser.add_argument(
        "--model.preset",
        type=str,
        default="nano",
        help=f"one of {', '.join(PRESETS)}: what the entries below are unless given",
    )
    for name, (kind, meaning) in architecture(WaveLiTConfig).items():
        parser.add_argument(f"--model.{name}", type=kind, default="preset", help=meaning)
    parser.add_class_arguments(TrainConfig, "train")
    parser.add_class_arguments(TrainerConfig, "trainer")
    older = {f"train.{name}" for name in TrainConfig.RENAMED}
    require_plain(words, older.union(parser.get_defaults().keys()) - TYPED)
    words = rename_options(words, groups)
    source = value_of(words, "--from")
    trained = None if source is None else load(require_path("--from", source))
    if strange := [option for option in JOINT_ALONE if value_of(words, option) is not None]:
        of = "this one is new" if source is None else f"{source} is none"
        raise WavelitError(f"{strange[0]} is for a joint model that is fine-tuned: {of}")
    if trained is not None:
        parser.set_defaults({"data.n_steps_input": trained.config.n_steps_input})
    options = parser.parse_args(words)
    recipe = vars(options.train) | dict.fromkeys(budgets(words))
    data = WellDataModule(
        **{
            **{name: value for name, value in vars(options.data).items() if name != "paths"},
            # As it was typed: the parser reads {a: 1} as YAML where more than text is taken.
            **({} if (typed := value_of(words, "--data.path")) is None else {"path": typed}),
            # A recipe with another is refused.
            "n_steps_output": max(1, options.train.pushforward, options.train.unroll),
            "seed": options.seed,
        }
    )
    # A word that is no dataset is named first: what else is missing matters less.
    known_as = data.metadata.dataset_name
    train, trainer = TrainConfig(**recipe), TrainerConfig(**vars(options.trainer))
    changes = {k: v for k, v in vars(options.model).items() if k != "preset" and v != "preset"}
    if trained is None:
        if options.keep_statistics:
            raise WavelitError("--keep_statistics is for --from: a new model has no statistics")
        model = build_model(data, options.model.preset, options.seed, **changes)
        kind = options.model.preset
    else:
        if changes or options.model.preset != "nano":
            raise WavelitError(
                f"the architecture is that of {source}: leave --model.* out, or train anew"
            )
        model, kind = trained, f"from-{Path(str(source)).name}"
    name = f"{known_as}-{kind}"
    folder = require_path("run", options.run or Path("runs") / _file_name(name))
    fit(
        folder,
        data,
        model,
        train,
        trainer,
        options.seed,
        options.keep_statistics,
        overwrite=options.overwrite,
    )
    done(folder)


def _goes_on_with(folder: Path) -> bool:
    """Whether the folder held a run, which has now come to its end."""
    from wavelit.api import resume
    from wavelit.training.checkpoint_files import newest_checkpoint
    from wavelit.training.joint_folder import is_joint
    from wavelit.training.joint_folder import is_trained as is_joint_trained
    from wavelit.training.rank_zero import is_first
    from wavelit.training.run_state import is_trained

    if not (folder / "config.yaml").exists():
        return False
    if (is_joint_trained if is_joint(folder) else is_trained)(folder):
        if is_first():
            print_lines(
                f"{folder} has come to its end with its own settings, not those of this command; "
                f"`--resume {folder} --steps N` trains it for longer"
            )
        return True
    if newest_checkpoint(folder / "checkpoints") is None:
        return False
    if is_first():
        print_lines(f"going on with {folder}: its own settings hold, not those of this command")
    resume(folder)
    return True


def _file_name(name: str) -> str:
    """A name from a file as the name of a folder, which stays where it is put."""
    return re.sub(r"[^\w.+-]|^\.+", "_", name)[:100]


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
    parser.add_argument("run", type=str, help="run folder")
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
    from wavelit.training.joint_folder import systems_of

    if options.system is None and len(systems_of(options.run)) > 1:
        _evaluate_joint(options)
        return
    records = None if options.records is None else records_path(options.records)
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


def _print_symmetries(options: Any) -> None:
    from pathlib import Path

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
