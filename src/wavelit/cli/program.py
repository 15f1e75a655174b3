"""The command line. Each command builds its own parser, so that `wavelit --help` imports nothing
heavy.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from wavelit.cli import (
    cluster,
    datasets,
    diagnosis,
    exporting,
    measures,
    runs,
    training,
    transfer,
)
from wavelit.cli.output import LONGEST, complaint, print_error
from wavelit.errors import WavelitError, printable, system_error

__all__ = ["main"]

USAGE = """usage: wavelit COMMAND [options]

commands:
  demo            simulate a system, train on it and report: from nothing to a scored emulator
  data generate   simulate a PocketWell system
  data download   fetch a dataset of The Well
  data convert    NetCDF or zarr files to a dataset folder
  data subset     some trajectories and states of a dataset as a new one
  data check      look for what is wrong with a dataset folder
  data info       what a dataset folder holds
  diagnose        what a dataset is like, and which model to start from
  train           train a model into a run folder
  evaluate        score a run on a split and write its report
  compare         score runs of one dataset side by side and write their report
  rollout         write a run's rollout, or a pretrained model's, as HDF5, PNG, GIF and MP4
  export          write one step of a model as a .pt2 or .onnx file for other programs
  info            versions, devices and presets; with a preset and a resolution, what it costs
  benchmark speed time the reader, the transforms, training, inference and rollouts; one CSV each
  benchmark accuracy
                  train and score WaveLiT, The Well's models and controls alike; resumable
  benchmark accuracy2
                  likewise by the second protocol: what stands in attention's place
  transfer        one model for several systems, against one for each; resumable
  ray             the runs of data generate, of a benchmark or of transfer on a Ray cluster

`wavelit COMMAND --help` explains the options of a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on standard error and exit status 2."""
    if arguments is None:
        sys.unraisablehook = _raised_again
    # A second interrupt meets a program that is ending, also where it comes before it is ignored.
    with suppress(KeyboardInterrupt):
        try:
            return _command(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt:
            if arguments is None:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("wavelit: interrupted", file=sys.stderr)
    return 130


def _raised_again(event: Any) -> None:
    """An interrupt that falls into a callback, where Python prints and drops it, comes once more;
    in a moment, as raised here it would be dropped again.
    """
    if issubclass(event.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.01, _thread.interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(event)


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
        print_error(f"unknown command '{name}'; known: {known}")
        return 2
    from jsonargparse import ArgumentError, ArgumentParser

    from wavelit.allocator import keep_freed_memory

    if name != "benchmark speed":
        keep_freed_memory()
    parser = ArgumentParser(prog=f"wavelit {name}", exit_on_error=False, allow_abbrev=False)
    format_of_python = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {printable(message, LONGEST)}\n"
    try:
        COMMANDS[name](parser, words[len(name.split()) :])
    except (WavelitError, ArgumentError) as error:
        message = complaint(error) if isinstance(error, ArgumentError) else str(error)
        if message.startswith("Caught WavelitError in DataLoader worker"):
            message = message.strip().splitlines()[-1].split("WavelitError: ")[-1]
        print_error(message)
        return 2
    except BrokenPipeError:
        # Whoever read the output has enough; nothing is left to be written when the interpreter
        # ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        print_error(system_error(error))
        return 2
    finally:
        warnings.formatwarning = format_of_python
    return 0


COMMANDS: dict[str, Callable[[Any, list[str]], None]] = {
    "demo": runs.demo,
    "data generate": datasets.data_generate,
    "data download": datasets.data_download,
    "data convert": datasets.data_convert,
    "data check": datasets.data_check,
    "data info": datasets.data_info,
    "data subset": datasets.data_subset,
    "diagnose": diagnosis.diagnose,
    "train": training.train,
    "evaluate": runs.evaluate,
    "compare": runs.compare,
    "rollout": runs.rollout,
    "export": exporting.export,
    "info": measures.info,
    "benchmark speed": measures.benchmark_speed,
    "benchmark accuracy": measures.benchmark_accuracy,
    "benchmark accuracy2": measures.benchmark_accuracy2,
    "transfer": transfer.transfer,
    "ray": cluster.ray,
}
