"""`wavelit ray COMMAND`: a grid of runs as tasks of a Ray cluster.

    wavelit ray benchmark accuracy2 final --models "WaveLiT 0.2" FNO-0.5M --systems shear_flow \
        --seeds 0 1 2

Every combination of the values after options of the grid is the command with one value of each, in
a process of its own; other options are passed on. Without an address Ray starts on this machine.
Workers need the package, the datasets and the folder of results under the same paths. As without
Ray, what is there is not run again: a task whose node was lost goes on where another one begins.

References:
    Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, 2018, arXiv
    1712.05889.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from wavelit.checks.arguments import listed, require_whole
from wavelit.cli.output import print_lines
from wavelit.cli.words import named_systems, option_groups
from wavelit.errors import WavelitError, printable

__all__ = ["apart", "ray", "run_words", "split", "waves"]

# Seconds for a cluster to answer.
LONGEST_WAIT = 10.0
NEEDED = "ray is missing: pip install 'wavelit[ray]'"


Outcome = tuple[int, str]


class Grid(NamedTuple):
    """What of a command is a grid.

    Attributes:
        stages: By the word that says what is run, the options whose values are run apart. A command
            without stages has its own under ""; there "" also stands for words before any option.
        processes: The option that says how many processes a task has, if it has one.
    """

    stages: dict[str, tuple[str, ...]]
    processes: str = ""


TRANSFER = ("seeds", "without", "targets", "trajectories")
# Learning rates are searched on systems of their own, whatever is named.
ACCURACY = Grid({"lr": ("models",), "final": ("models", "systems", "seeds")})
# Timing needs a machine to itself, and pairs share the models that they start from.
GRIDS = {
    "data generate": Grid({"": ("",)}, "processes"),
    "benchmark accuracy": ACCURACY,
    "benchmark accuracy2": ACCURACY,
    "transfer": Grid(dict.fromkeys(("joint", "control", "tuned", "few", "test"), TRANSFER)),
}
# Options without a value.
FLAGS = ("force",)


def ray(parser: Any, words: list[str]) -> None:
    """Run a grid of another command on a Ray cluster."""
    own, command = apart(words)
    parser.add_argument(
        "--address",
        type=str | None,
        default=None,
        help="of the cluster, or auto for the one of this machine; a new one here if absent",
    )
    parser.add_argument("--cpus", type=int, default=1, help="cores of a task")
    options = parser.parse_args(own)
    require_whole("cpus", options.cpus, 1)
    if {"-h", "--help"} & {*command}:
        run_words(command, os.getcwd(), quiet=False)
        return
    tasks = split(command, options.cpus)
    try:
        # What it declares of its types changes from version to version.
        cluster: Any = importlib.import_module("ray")
    except ImportError as error:
        raise WavelitError(NEEDED) from error
    address = options.address or os.environ.get("RAY_ADDRESS")
    # A cluster that is there has its dashboard or has not.
    new: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    try:
        _require_answer(address)
        cluster.init(address, log_to_driver=False, logging_level=logging.ERROR, **new)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WavelitError(f"no Ray cluster at {address}: {reason}") from error
    most = max((node["Resources"].get("CPU", 0) for node in cluster.nodes()), default=0)
    if options.cpus > most:
        cluster.shutdown()
        raise WavelitError(
            f"no machine of the cluster has {options.cpus} cores, the largest {most:g}: fewer in "
            "--cpus"
        )
    failed, done = [], 0
    try:
        # A process of its own for each: threads and seeds are those of a command.
        task = cluster.remote(num_cpus=options.cpus, max_calls=1)(run_words)
        for wave in waves(tasks):
            pending = {task.remote(each, os.getcwd(), options.cpus): each for each in wave}
            while pending:
                (ready,), _ = cluster.wait(list(pending), num_returns=1)
                each = pending.pop(ready)
                try:
                    status, said = cluster.get(ready)
                except cluster.exceptions.RayError as error:
                    status, said = 1, printable(str(error).strip().splitlines()[-1], 1000)
                done += 1
                if status:
                    failed.append(said)
                outcome = f"failed: {said}" if status else said
                print_lines(f"[{done}/{len(tasks)}] {' '.join(each)}: {outcome}")
    finally:
        cluster.shutdown()
    if failed:
        raise WavelitError(f"{len(failed)} of {len(tasks)} tasks failed, the first: {failed[0]}")


def _require_answer(address: str | None) -> None:
    """Ray itself waits for minutes for a cluster that is not there.

    Raises:
        OSError: Nothing answers at HOST:PORT.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), LONGEST_WAIT).close()


def run_words(words: list[str], folder: str, threads: int = 1, quiet: bool = True) -> Outcome:
    """A command in this process: its exit status, and the last line that it said."""
    import torch

    from wavelit.cli.program import main

    out, err = io.StringIO(), io.StringIO()
    try:
        os.chdir(folder)
        torch.set_num_threads(threads)
        with contextlib.ExitStack() as stack:
            if quiet:
                stack.enter_context(contextlib.redirect_stdout(out))
                stack.enter_context(contextlib.redirect_stderr(err))
            status = main(words)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except Exception as error:  # noqa: BLE001
        # Of whatever kind: the other tasks go on, and this one is named.
        return 1, printable(f"{type(error).__name__}: {error}", 1000)
    lines = (err if status else out).getvalue().strip().splitlines()
    return status, printable(lines[-1] if lines else "", 1000)


def split(words: Sequence[str], cpus: int = 1) -> list[list[str]]:
    """A command once for every combination of the values of its grid.

    Args:
        words: The command.
        cpus: Cores of a task, for commands that have processes of their own.

    Raises:
        WavelitError: It is none that is a grid, or no single stage of it is named.
    """
    name = next((name for name in GRIDS if list(words[: len(name.split())]) == name.split()), None)
    if name is None:
        raise WavelitError(
            f"'{' '.join(words[:2])}' is no grid of runs: {listed(GRIDS)} are; leave ray out"
        )
    grid, groups = GRIDS[name], option_groups(words[len(name.split()) :], FLAGS)
    first = [value for option, values in groups if not option for value in values]
    stage = "" if "" in grid.stages else " ".join(first)
    if stage not in grid.stages:
        raise WavelitError(
            f"{name}: name one of the stages {listed(grid.stages)}, whose runs need nothing of "
            f"each other, before any option, not '{stage}'"
        )
    axes = grid.stages[stage]
    if "" in axes:
        groups = [
            (option, values if option else named_systems(values)) for option, values in groups
        ]
    if grid.processes and grid.processes not in dict(groups):
        groups.append((grid.processes, [str(cpus)]))
    choices = [
        [[*_option(option), value] for value in dict.fromkeys(values)]
        if option in axes and values
        else [[*_option(option), *values]]
        for option, values in groups
    ]
    return [
        [*name.split(), *itertools.chain.from_iterable(each)]
        for each in itertools.product(*choices)
    ]


def waves(tasks: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Tasks that can run at once, in turn: with few trajectories the learning rates of later seeds
    are those that seed 0 found.
    """
    later = [each for each in tasks if each[:2] == ["transfer", "few"] and not _is_first(each)]
    yield from (wave for wave in ([e for e in tasks if e not in later], later) if wave)


def _is_first(task: list[str]) -> bool:
    seeds = [values for option, values in option_groups(task) if option == "seeds"]
    return not seeds or seeds[-1] == ["0"]


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options of ray itself, which come first, and the command."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        place += 1 if "=" in words[place] or words[place] in ("-h", "--help") else 2
    return list(words[:place]), list(words[place:])


def _option(name: str) -> list[str]:
    return [f"--{name}"] if name else []
