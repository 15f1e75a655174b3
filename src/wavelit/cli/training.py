"""`wavelit train` on one dataset: a new run, one that goes on, one from a trained model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavelit.cli.output import print_lines
from wavelit.errors import WavelitError

__all__ = ["train"]

ABOUT = (
    "`wavelit train DATA --minutes 5`: a dataset's folder, and options, whose group may be left "
    "out of their names. With --resume RUN, --steps, --samples or --minutes extend the run; "
    "nothing else may be given. With --run RUN --resume auto the same command starts a run and "
    "goes on with it."
)


def train(parser: Any, words: list[str]) -> None:
    from wavelit.cli.joint import names_several, train_joint
    from wavelit.cli.options import TypeNames, expand, value_of, without
    from wavelit.data.datamodule import WellDataModule
    from wavelit.model.config import WaveLiTConfig
    from wavelit.training.config import TrainConfig, TrainerConfig

    if value_of(words, "--resume") == "auto":
        folder = _folder_to_go_on_with(words)
        if _goes_on_with(folder):
            _print_end(folder)
            return
        words = without(words, "--resume")
    if names_several(words):
        _print_end(train_joint(words))
        return
    groups = {
        "data": WellDataModule,
        "model": WaveLiTConfig,
        "train": TrainConfig,
        "trainer": TrainerConfig,
    }
    words = expand(words, groups)
    parser.formatter_class = TypeNames
    goes_on = any(word.split("=")[0] == "--resume" for word in words)
    _print_end((_resumed if goes_on else _trained)(parser, words, groups))


def _print_end(folder: Path) -> None:
    from wavelit.training.rank_zero import is_first

    if is_first():
        print_lines(f"trained: {folder}; score it with `wavelit evaluate {folder}`")


def _folder_to_go_on_with(words: list[str]) -> Path:
    """The run of a command with --resume auto."""
    from wavelit.checks.arguments import require_path
    from wavelit.cli.options import value_of

    if (run := value_of(words, "--run")) is None:
        raise WavelitError("--resume auto needs --run: the folder that a second start finds")
    if "--overwrite" in words:
        raise WavelitError(
            "--overwrite removes the run that --resume auto goes on with: leave one of them out"
        )
    return require_path("run", run)


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


def _resumed(parser: Any, words: list[str], groups: Mapping[str, Any]) -> Path:
    """Go on with a run, whose settings are in its folder: a second setting beside them would be
    ignored, so none but a larger budget is accepted.
    """
    from wavelit.api import resume
    from wavelit.checks.arguments import require_path
    from wavelit.cli.options import rename_options

    parser.add_argument("--resume", type=str)
    for name, number in (("steps", int), ("samples", int), ("minutes", float)):
        parser.add_argument(f"--train.{name}", type=number | None, default=None)
    options = parser.parse_args(rename_options(words, groups))
    folder = require_path("resume", options.resume)
    resume(folder, **vars(options.train))
    return folder


def _trained(parser: Any, words: list[str], groups: Mapping[str, Any]) -> Path:
    """Train a new run."""
    from wavelit.api import fit, load
    from wavelit.checks.arguments import require_path
    from wavelit.cli.joint import JOINT_ALONE
    from wavelit.cli.options import TYPED, budgets, rename_options, require_plain, value_of

    _add_options(parser, groups)
    older = {f"train.{name}" for name in groups["train"].RENAMED}
    require_plain(words, older.union(parser.get_defaults().keys()) - TYPED)
    words = rename_options(words, groups)
    source = value_of(words, "--from")
    start = None if source is None else load(require_path("--from", source))
    if strange := [option for option in JOINT_ALONE if value_of(words, option) is not None]:
        of = "this one is new" if source is None else f"{source} is none"
        raise WavelitError(f"{strange[0]} is for a joint model that is fine-tuned: {of}")
    if start is not None:
        parser.set_defaults({"data.n_steps_input": start.config.n_steps_input})
    options = parser.parse_args(words)
    data = _data(words, options, groups)
    # A word that is no dataset is named first: what else is missing matters less.
    known_as = data.metadata.dataset_name
    recipe = groups["train"](**vars(options.train) | dict.fromkeys(budgets(words)))
    trainer = groups["trainer"](**vars(options.trainer))
    model, kind = _model(options, data, source, start)
    run = options.run or Path("runs") / _file_name(f"{known_as}-{kind}")
    folder = require_path("run", run)
    fit(
        folder,
        data,
        model,
        recipe,
        trainer,
        options.seed,
        options.keep_statistics,
        overwrite=options.overwrite,
    )
    return folder


def _add_options(parser: Any, groups: Mapping[str, Any]) -> None:
    """The options of a new run."""
    from wavelit.cli.options import architecture, mapping
    from wavelit.model.config import PRESETS
    from wavelit.model.joint_config import JOINT_PRESETS

    parser.description = ABOUT
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
        groups["data"], "data", skip={"seed", "n_steps_output", "storage_options"}
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
    for name, (kind, meaning) in architecture(groups["model"]).items():
        parser.add_argument(f"--model.{name}", type=kind, default="preset", help=meaning)
    parser.add_class_arguments(groups["train"], "train")
    parser.add_class_arguments(groups["trainer"], "trainer")


def _data(words: list[str], options: Any, groups: Mapping[str, Any]) -> Any:
    """The data module that is asked for."""
    from wavelit.cli.options import value_of

    given = {name: value for name, value in vars(options.data).items() if name != "paths"}
    # As it was typed: the parser reads {a: 1} as YAML where more than text is taken.
    if (typed := value_of(words, "--data.path")) is not None:
        given["path"] = typed
    # A recipe with another is refused.
    ahead = max(1, options.train.pushforward, options.train.unroll)
    return groups["data"](**given, n_steps_output=ahead, seed=options.seed)


def _model(options: Any, data: Any, source: str | None, start: Any) -> tuple[Any, str]:
    """The model that is trained, and how its run is called after the dataset.

    Args:
        options: The command line.
        data: What it is trained on.
        source: The model that is started from, as it was typed; None for a new one.
        start: That model.
    """
    from wavelit.training.run import build_model

    preset = options.model.preset
    changes = {k: v for k, v in vars(options.model).items() if k != "preset" and v != "preset"}
    if source is None:
        if options.keep_statistics:
            raise WavelitError("--keep_statistics is for --from: a new model has no statistics")
        return build_model(data, preset, options.seed, **changes), preset
    if changes or preset != "nano":
        raise WavelitError(
            f"the architecture is that of {source}: leave --model.* out, or train anew"
        )
    return start, f"from-{Path(source).name}"


def _file_name(name: str) -> str:
    """A name from a file as the name of a folder, which stays where it is put."""
    return re.sub(r"[^\w.+-]|^\.+", "_", name)[:100]
