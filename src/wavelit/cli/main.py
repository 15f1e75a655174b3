"""The command line. Each command builds its own parser, so that `wavelit --help` imports nothing
heavy.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from wavelit.errors import WavelitError, printable, system_error

__all__ = ["main"]

LONGEST_ERROR = 1000

USAGE = """usage: wavelit COMMAND [options]

commands:
  demo            simulate a system, train on it and report: from nothing to a scored emulator
  data generate   simulate a PocketWell system
  data check      look for what is wrong with a dataset folder
  data info       what a dataset folder holds
  train           train a model into a run folder
  evaluate        score a run on a split and write its report
  rollout         write a run's rollout, or a pretrained model's, as HDF5, PNG, GIF and MP4
  info            versions, devices and presets; with a preset and a resolution, what it costs
  benchmark speed time the reader, the transforms, training, inference and rollouts; one CSV each
  benchmark accuracy
                  train and score WaveLiT, The Well's models and controls alike; resumable

`wavelit COMMAND --help` explains the options of a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit status 2."""
    try:
        try:
            return _command(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt:
            if arguments is None:
                # A second one meets a program that is ending.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("wavelit: interrupted", file=sys.stderr)
            return 130
    except KeyboardInterrupt:
        # It came before that line.
        print("wavelit: interrupted", file=sys.stderr)
        return 130


def _command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        from wavelit import __version__

        print(__version__)
        return 0
    is_group = words[0] in ("data", "benchmark")
    if is_group and (len(words) == 1 or words[1] in ("-h", "--help")):
        known = ",".join(n.split()[1] for n in COMMANDS if n.startswith(words[0]))
        status = 0 if words[1:] else 2
        print(
            f"usage: wavelit {words[0]} {{{known}}} [options]",
            file=sys.stderr if status else sys.stdout,
        )
        return status
    name = " ".join(words[: 2 if is_group else 1])
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        _print_error(f"unknown command '{name}'; known: {known}")
        return 2
    from jsonargparse import ArgumentError, ArgumentParser

    from wavelit.allocator import keep_freed_memory

    if name != "benchmark speed":
        keep_freed_memory()
    parser = ArgumentParser(prog=f"wavelit {name}", exit_on_error=False, allow_abbrev=False)
    format_of_python = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: (
        f"warning: {printable(message, LONGEST_ERROR)}\n"
    )
    try:
        COMMANDS[name](parser, words[len(name.split()) :])
    except (WavelitError, ArgumentError) as error:
        message = str(error)
        if isinstance(error, ArgumentError):
            # jsonargparse explains at length; its first lines say which entry is wrong.
            message = " ".join([line.strip() for line in message.splitlines() if line.strip()][:2])
            if message.endswith("arguments:"):
                message += " '', an empty word"
        elif message.startswith("Caught WavelitError in DataLoader worker"):
            message = message.strip().splitlines()[-1].split("WavelitError: ")[-1]
        _print_error(message)
        return 2
    except BrokenPipeError:
        # Whoever read the output has enough; nothing is left to be written when the interpreter
        # ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        _print_error(system_error(error))
        return 2
    finally:
        warnings.formatwarning = format_of_python
    return 0


def _print_error(message: str) -> None:
    # Names from files may hold what a terminal obeys; where they are long, the reason and the fix
    # stand at the end.
    if len(message) > LONGEST_ERROR:
        message = f"{message[: LONGEST_ERROR // 2]} ... {message[-LONGEST_ERROR // 2 :]}"
    print(f"wavelit: error: {printable(message, 8 * LONGEST_ERROR)}", file=sys.stderr)


def _demo(parser: Any, words: list[str]) -> None:
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
    parser.add_argument("--minutes", type=float, default=5.0, help="minutes of training")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args(words)
    import dataclasses

    from wavelit.demo import DEMO, demo

    train = dataclasses.replace(DEMO, minutes=options.minutes)
    evaluation, report = demo(
        options.system, options.run, options.size, options.root, train, threads=options.threads
    )
    _print_scores(evaluation, report)


def _data_generate(parser: Any, words: list[str]) -> None:
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
        help="constant field that tells which cells count",
    )
    parser.add_argument(
        "--mask_excludes", type=float, default=1.0, help="its value on the cells that do not"
    )


def _data_check(parser: Any, words: list[str]) -> None:
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
        print(printable(f"{finding.severity}: {finding.file}: {finding.message}", LONGEST_ERROR))
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise WavelitError(f"{options.path}: {errors} error(s)")
    print(f"{options.path}: no errors, {len(findings)} warning(s)")


def _data_info(parser: Any, words: list[str]) -> None:
    _add_dataset(parser)
    options = parser.parse_args(words)
    from wavelit.data.checking.describe import describe_dataset

    summary = describe_dataset(options.path, options.mask_field, options.mask_excludes)
    for name, value in vars(summary).items():
        print(printable(f"{name.replace('_', ' '):20s} {value}", LONGEST_ERROR))


def _train(parser: Any, words: list[str]) -> None:
    from wavelit.api import fit, resume
    from wavelit.cli.options import architecture, mapping, rename_options, require_plain
    from wavelit.data.datamodule import WellDataModule
    from wavelit.model.config import PRESETS, WaveLiTConfig
    from wavelit.training.config import TrainConfig, TrainerConfig
    from wavelit.training.ranks import is_first
    from wavelit.training.run import build_model

    def done(folder: Path) -> None:
        if is_first():
            print(f"trained: {folder}; score it with `wavelit evaluate {folder}`")

    if any(word.split("=")[0] == "--resume" for word in words):
        # Its settings are in its folder: a second setting beside it would be ignored, so none is
        # accepted.
        parser.add_argument("--resume", type=str)
        folder = Path(parser.parse_args(words).resume)
        resume(folder)
        done(folder)
        return
    parser.add_argument("--config", action="config", help="YAML file of these options")
    parser.add_argument(
        "--run",
        type=str | None,
        default=None,
        help="new run folder; runs/<dataset>-<preset> if absent",
    )
    parser.add_argument(
        "--resume", type=str | None, default=None, help="run folder to continue, alone"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data order and noise")
    # What is typed as anything, the parser takes for the name of a class to import and to call.
    parser.add_class_arguments(
        WellDataModule, "data", skip={"seed", "n_steps_output", "storage_options"}
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
    require_plain(words, older.union(parser.get_defaults().keys()) - {"config", "resume"})
    options = parser.parse_args(rename_options(words, TrainConfig.RENAMED))
    train, trainer = TrainConfig(**vars(options.train)), TrainerConfig(**vars(options.trainer))
    data = WellDataModule(
        **{**vars(options.data), "n_steps_output": train.pushforward, "seed": options.seed}
    )
    changes = {k: v for k, v in vars(options.model).items() if k != "preset" and v != "preset"}
    model = build_model(data, options.model.preset, options.seed, **changes)
    name = f"{data.metadata.dataset_name}-{options.model.preset}"
    folder = Path(options.run or Path("runs") / _file_name(name))
    fit(folder, data, model, train, trainer, options.seed)
    done(folder)


def _file_name(name: str) -> str:
    """A name from a file as the name of a folder, which stays where it is put."""
    return re.sub(r"[^\w.+-]|^\.+", "_", name)[:100]


def _evaluate(parser: Any, words: list[str]) -> None:
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument(
        "--split", type=Literal["valid", "test"], default="valid", help="split to score"
    )
    parser.add_argument(
        "--weights", type=Literal["final", "best"], default="final", help="final or best validation"
    )
    parser.add_argument(
        "--data", type=str | None, default=None, help="another dataset folder with the same fields"
    )
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, ...")
    options = parser.parse_args(words)
    from wavelit.evaluation.evaluate_run import evaluate_run

    _print_scores(
        *evaluate_run(options.run, options.split, options.weights, options.data, options.device)
    )


def _rollout(parser: Any, words: list[str]) -> None:
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
    parser.add_argument(
        "--field", type=str | None, default=None, help="field to draw; the first if absent"
    )
    parser.add_argument(
        "--weights", type=Literal["final", "best"], default="final", help="final or best validation"
    )
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, ...")
    options = parser.parse_args(words)
    if (options.run is None) == (options.pretrained is None):
        raise WavelitError("name a run folder, or a system with --pretrained, and not both")
    if options.pretrained is not None:
        for name, default in (("split", "valid"), ("trajectory", 0), ("weights", "final")):
            if getattr(options, name) != default:
                raise WavelitError(
                    f"--{name} is for run folders: a pretrained model has one trajectory, of the "
                    "validation split"
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
        )
    for path in paths:
        print(path)


def _info(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "--preset", type=str | None, default=None, help="say what this preset costs"
    )
    parser.add_argument(
        "--resolution", type=int, nargs="+", default=[64, 64], help="points per axis"
    )
    parser.add_argument("--fields", type=int, default=4, help="field channels")
    parser.add_argument("--batch", type=int, default=1, help="samples of a step")
    parser.add_argument(
        "--flops",
        type=float | None,
        default=None,
        help="sustained FLOP/s of another device, for an estimate",
    )
    parser.add_argument(
        "--bandwidth", type=float | None, default=None, help="its memory bandwidth in bytes/s"
    )
    options = parser.parse_args(words)
    if options.preset is not None:
        from wavelit.cost import describe_cost

        print(
            describe_cost(
                options.preset,
                options.resolution,
                options.fields,
                options.batch,
                options.flops,
                options.bandwidth,
            )
        )
        return
    import os
    import platform

    import torch

    from wavelit import __version__
    from wavelit.model.config import PRESETS, WaveLiTConfig
    from wavelit.model.wavelit import WaveLiT

    print(f"wavelit {__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    cuda = (
        ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none"
    )
    print(f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads, CUDA devices: {cuda}")
    print("presets, parameters for 4 fields and 4 steps in 2-D:")
    for name in PRESETS:
        config = WaveLiTConfig.preset(name, n_fields=4)
        with torch.device("meta"):
            count = sum(p.numel() for p in WaveLiT(config).parameters())
        print(
            f"  {name:5s} {count / 1e6:6.2f}M  E {config.embed_dim}, {config.num_heads} heads, "
            f"{config.depth} blocks"
        )


def _benchmark_speed(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "parts", nargs="*", default=[], help="parts to measure; all if none is named"
    )
    parser.add_argument(
        "--output", type=str, default="results/speed", help="folder of the CSV files"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--keep_memory", type=bool, default=True, help="keep freed memory, as other commands do"
    )
    options = parser.parse_args(words)
    from wavelit.benchmarks.speed import run

    for path in run(options.parts, options.output, options.threads, options.keep_memory):
        print(path)


def _benchmark_accuracy(parser: Any, words: list[str]) -> None:
    parser.add_argument(
        "stages", nargs="*", default=[], help="rates, lr, final; all in turn if none is named"
    )
    parser.add_argument(
        "--models", type=str, nargs="+", default=[], help="contestants; all if absent"
    )
    parser.add_argument(
        "--systems", type=str, nargs="+", default=[], help="of PocketWell; the eight if absent"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the final runs")
    parser.add_argument("--minutes", type=float, default=5.0, help="core-minutes of a final run")
    parser.add_argument(
        "--output", type=str, default="results/accuracy", help="folder of the results"
    )
    parser.add_argument(
        "--root", type=str, default="datasets/pocketwell/small", help="folder of the datasets"
    )
    parser.add_argument(
        "--weights", type=str, default="runs/accuracy", help="folder of the trained weights"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="runs side by side, one thread each"
    )
    parser.add_argument(
        "--tuning",
        type=str | None,
        default=None,
        help="folder whose rates and learning rates are taken; --output if absent",
    )
    parser.add_argument(
        "--reference", type=str, default="WaveLiT", help="who rates are measured in turns with"
    )
    options = vars(parser.parse_args(words))
    from wavelit.benchmarks.accuracy import run
    from wavelit.benchmarks.protocol import STAGES

    for path in run(options.pop("stages") or STAGES, **options):
        print(path, flush=True)


def _print_scores(evaluation: Any, report: Path) -> None:
    from rich.console import Console

    from wavelit.evaluation.evaluate import format_table

    Console().print(format_table(evaluation))
    print(f"report: {report}")


COMMANDS: dict[str, Callable[[Any, list[str]], None]] = {
    "demo": _demo,
    "data generate": _data_generate,
    "data check": _data_check,
    "data info": _data_info,
    "train": _train,
    "evaluate": _evaluate,
    "rollout": _rollout,
    "info": _info,
    "benchmark speed": _benchmark_speed,
    "benchmark accuracy": _benchmark_accuracy,
}
