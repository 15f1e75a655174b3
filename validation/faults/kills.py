"""Interrupted trainings and generations: afterwards all must end as if nothing had happened.

A training is killed at a random moment or at a file operation, some of them twice, some with the
temporary folder on another file system; it is then resumed, or started again, and its weights must
be those of the run that nobody interrupted. A generation must leave no process behind, and the same
command must then give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from validation.faults.damage import choose
from validation.faults.disks import private_mounts, tmpfs
from validation.faults.hooks import count_operations, install
from validation.faults.processes import Process, Result, cli, judge, start, watch
from validation.faults.runs import SYSTEM, command, finish, generation_words, tensors, train

__all__ = ["generation", "prepare", "tree", "trial"]

Record = dict[str, Any]
EVERY = {"generate": 10}
DEAR = ("replace", "save", "move", "copyfile", "rename", "save_file")


def prepare(folder: Path) -> None:
    """The training that nobody interrupts, twice, its file operations and time; the bytes of a
    generation come when needed.
    """
    data, log = folder / "data2", folder / "operations"

    def counted() -> int:
        install(None, "", "", log)
        return cli(train(data, folder / "counted"))()

    first = command(train(data, folder / "plain"), folder, "plain")
    watch(start(counted, folder, "counted"))
    digests = [tensors(folder / name) for name in ("plain", "counted")]
    if digests[0] is None or digests[0] != digests[1]:
        raise RuntimeError(f"two plain trainings differ: {digests}; {first.err[-2000:]}")
    facts = {"digest": digests[0], "seconds": first.seconds, "operations": count_operations(log)}
    (folder / "training.json").write_text(json.dumps(facts))


def trial(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    """One in ten is a generation."""
    if number % EVERY["generate"] == EVERY["generate"] - 1:
        return _generate(templates, rng, folder)
    facts = json.loads((templates / "training.json").read_text())
    run, data = folder / "run", templates / "data2"
    words, environment, kind = train(data, run), {}, "training"
    if rng.random() < 0.33 and private_mounts():
        tmpfs(folder / "elsewhere", 2**28)
        environment, kind = {"TMPDIR": str(folder / "elsewhere")}, "training, TMPDIR elsewhere"
    what, result = _interrupted(rng, words, folder, facts, "first", environment)
    told = [(result, what)]
    if rng.random() < 0.33 and (run / "checkpoints" / "last.ckpt").exists():
        again = ["train", "--resume", str(run)]
        what, result = _interrupted(rng, again, folder, facts, "second", environment)
        told.append((result, f"then {what}"))
    outcome, why = finish(words, run, facts["digest"], folder, **environment)
    for each, _ in told:
        # A command that was killed may say nothing, but it does not break down.
        if outcome == "ok" and "Traceback (most recent call last)" in each.err:
            outcome, why = "traceback", judge(each, [])[1]
    return {
        "kind": kind,
        "what": "; ".join(text for _, text in told),
        "outcome": outcome,
        "why": why,
    }


def _interrupted(
    rng: np.random.Generator,
    words: list[str],
    folder: Path,
    facts: Record,
    stem: str,
    environment: dict[str, str],
) -> tuple[str, Result]:
    if rng.random() < 0.4:
        moment = float(rng.uniform(0, 1.1 * facts["seconds"]))
        name = choose(
            rng,
            (
                "SIGKILL",
                "SIGTERM",
                "SIGINT",
                "SIGTERM, SIGKILL",
                "SIGTERM, SIGTERM",
                "SIGINT, SIGINT",
            ),
        )
        each = [getattr(signal, word) for word in name.split(", ")]
        signals = [(moment + 0.05 * i, number) for i, number in enumerate(each)]
        process = start(cli(words), folder, stem, **environment)
        return f"{name} at {moment:.2f} s", watch(process, signals=signals)
    operations = facts["operations"]
    # Replacing and saving are where a run could be lost.
    dear = [i for i, name in enumerate(operations, 1) if name.split()[0] in DEAR]
    at = (
        int(choose(rng, dear))
        if dear and rng.random() < 0.5
        else int(rng.integers(1, len(operations) + 1))
    )
    how, place = (
        choose(rng, ("kill", "kill", "kill", "term")),
        choose(rng, ("before", "after", "half")),
    )

    def hooked() -> int:
        install(at, how, place)
        return cli(words)()

    what = (
        f"{how} {place} operation {at} of {len(operations)}, "
        f"{operations[at - 1] if stem == 'first' else ''}"
    )
    return what, watch(start(hooked, folder, stem, **environment))


def generation(folder: Path, root: Path, stem: str, processes: int = 2) -> Process:
    """`data generate` as a program of its own, as its workers begin from a fresh interpreter."""
    words = generation_words(root, processes)

    def run() -> int:
        code = "import sys; from wavelit.cli.program import main; sys.exit(main())"
        os.execv(sys.executable, [sys.executable, "-c", code, *words])

    return start(run, folder, stem)


def tree(folder: Path) -> dict[str, str]:
    """Digest of every file of a dataset, but for the record, which holds the seconds."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != "pocketwell.json"
        and not path.name.startswith(".wavelit")
    }


def due_tree(templates: Path) -> dict[str, str]:
    """The bytes of a generation that nobody interrupts, computed once."""
    path = templates / "generated.json"
    if not path.exists():
        stem = f"generated-{os.getpid()}"
        result = watch(generation(templates, templates / stem, stem), 120)
        if result.status != 0:
            raise RuntimeError(
                f"the plain generation ended with {result.status}: {result.err[-2000:]}"
            )
        own = path.with_name(f"{stem}.json")
        own.write_text(json.dumps(tree(templates / stem / "tiny" / SYSTEM)))
        os.replace(own, path)
    return dict(json.loads(path.read_text()))


def _generate(templates: Path, rng: np.random.Generator, folder: Path) -> Record:
    due, root = due_tree(templates), folder / "root"
    moment, number = (
        float(rng.uniform(0.5, 10)),
        choose(rng, (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    )
    what = f"{signal.Signals(number).name} at {moment:.1f} s"
    first = watch(generation(folder, root, "first"), 120, [(moment, number)])
    if first.left:
        return {
            "kind": "generation",
            "what": what,
            "outcome": "descendants",
            "why": f"{first.left} left after 15 s",
        }
    second = watch(generation(folder, root, "second"), 120)
    outcome, why = judge(second, [str(folder)])
    if outcome not in ("ok", "warned"):
        outcome = "lost" if outcome == "refused" else outcome
    elif (found := tree(root / "tiny" / SYSTEM)) != due:
        differing = sorted(
            name for name in found.keys() | due.keys() if found.get(name) != due.get(name)
        )
        outcome, why = "other bytes", ", ".join(differing)[:300]
    if outcome in ("ok", "warned") and "Traceback (most recent call last)" in first.err:
        with contextlib.suppress(IndexError):
            outcome, why = "traceback", judge(first, [])[1]
    return {"kind": "generation", "what": what, "outcome": outcome, "why": why}
