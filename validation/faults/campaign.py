"""Which trials there are, two side by side, and what came of them.

A trial appends one line to <scratch>/trials.jsonl when it has ended; the same command takes up what
is missing. Parts are interleaved, so that a campaign that ran out of time has done its share of
each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

Record = dict[str, Any]
PARTS = ("files", "calls", "kills", "disks", "pairs")
LONGEST = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue a campaign and write its summary; 1 if anything fell short."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.faults", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--source", default="src", help="the source tree that is attacked")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="the summary, JSON")
    parser.add_argument(
        "--scratch",
        type=Path,
        help="where trials run and are recorded; in the temporary folder if absent",
    )
    for part in PARTS:
        parser.add_argument(f"--{part}", type=int, default=0, help="trials of this part")
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="longest time; run again for the rest"
    )
    parser.add_argument("--jobs", type=int, default=2, help="trials side by side")
    parser.add_argument(
        "--no-mounts", action="store_true", help="make errors of disks up, also as root"
    )
    parser.add_argument(
        "--replay", help="PART/NUMBER: this trial alone, its folder kept and its output shown"
    )
    options = parser.parse_args(arguments)
    source = Path(options.source).resolve()
    if not (source / "wavelit").is_dir():
        parser.error(f"{source} holds no wavelit")
    name = options.output.stem if options.output else "replay"
    scratch = options.scratch or Path(tempfile.gettempdir()) / f"wavelit-faults-{name}"
    scratch = scratch.resolve()
    if options.no_mounts:
        os.environ["WAVELIT_FAULTS_UNMOUNTED"] = "1"
    _import(source)
    if options.replay:
        return _replay(options.replay, options.seed, scratch)
    if options.output is None:
        parser.error("--output is due")
    facts = {"commit": _commit(source), "seed": options.seed}
    scratch.mkdir(parents=True, exist_ok=True)
    _same_campaign(parser, scratch / "campaign.json", facts)
    _prepare(scratch / "templates")
    log = scratch / "trials.jsonl"
    done = {(r["part"], r["number"]) for r in _records(log)}
    counts = {part: getattr(options, part) for part in PARTS}
    order = sorted((number / n, part, number) for part, n in counts.items() for number in range(n))
    due = [(part, number) for _, part, number in order if (part, number) not in done]
    spent = _run(due, options.seed, scratch, log, options.seconds, options.jobs)
    _write_summary(options.output, facts, counts, _records(log), spent, scratch / "campaign.json")
    short = [r for r in _records(log) if not _is_good(r)]
    print(
        f"{len(_records(log))} of {sum(counts.values())} trials, {len(short)} fell short: "
        f"{options.output}"
    )
    return 1 if short else 0


def _import(source: Path) -> None:
    """Everything heavy, once, before any fork and any thread; the attacked tree comes first."""
    sys.path.insert(0, str(source))
    os.environ["PYTHONPATH"] = str(source)
    os.environ.update(
        dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    )
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["COLUMNS"] = "120"
    import matplotlib

    matplotlib.use("Agg")
    import torch

    torch.set_num_threads(1)
    from importlib import import_module

    for name in (
        "cli.program",
        "api",
        "data.checking.check",
        "data.checking.describe",
        "data.pocketwell",
        "demo",
        "cost",
        "evaluation.report",
    ):
        import_module(f"wavelit.{name}")
    import matplotlib.pyplot
    import tensorboard  # noqa: F401
    import torch.utils.tensorboard

    import wavelit

    if Path(wavelit.__file__).parent != source / "wavelit":
        raise RuntimeError(f"{wavelit.__file__} is not of {source}")


def _trials() -> dict[str, Callable[..., Record]]:
    from validation.faults import calls, disks, files, kills, pairs

    return {
        "files": files.trial,
        "calls": calls.trial,
        "kills": kills.trial,
        "disks": disks.trial,
        "pairs": pairs.trial,
    }


def _prepare(templates: Path) -> None:
    from validation.faults import kills, runs

    if (templates / "training.json").exists():
        return
    shutil.rmtree(templates, ignore_errors=True)
    templates.mkdir(parents=True)
    runs.prepare(templates)
    kills.prepare(templates)


def _one(part: str, number: int, seed: int, scratch: Path, folder: Path) -> Record:
    import numpy as np

    began = time.monotonic()
    rng = np.random.default_rng((seed, PARTS.index(part), number))
    record: Record = {"part": part, "number": number}
    try:
        record |= _trials()[part](scratch / "templates", rng, number, folder)
    except BaseException:  # noqa: BLE001
        # The campaign's own mistake, to be mended here.
        record |= {
            "kind": "campaign",
            "what": "",
            "outcome": "campaign",
            "why": traceback.format_exc()[-1500:],
        }
    return record | {"seconds": round(time.monotonic() - began, 2)}


def _run(
    due: list[tuple[str, int]], seed: int, scratch: Path, log: Path, seconds: float, jobs: int
) -> float:
    """Trials side by side until all are done or the time is; each in a process of its own, as it
    may mount disks.
    """
    began, waiting = time.monotonic(), list(reversed(due))
    running: dict[int, tuple[str, int, Path, float]] = {}
    shown = 0.0
    while running or (waiting and time.monotonic() - began < seconds):
        while waiting and len(running) < jobs and time.monotonic() - began < seconds:
            part, number = waiting.pop()
            folder = scratch / "trials" / f"{part}-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            pid = os.fork()
            if pid == 0:
                os.setsid()
                record = _one(part, number, seed, scratch, folder)
                (folder / "record.json").write_text(json.dumps(record))
                os._exit(0)
            running[pid] = (part, number, folder, time.monotonic())
        for pid in list(running):
            part, number, folder, since = running[pid]
            if time.monotonic() - since > LONGEST:
                os.killpg(pid, signal.SIGKILL)
            if os.waitpid(pid, os.WNOHANG)[0]:
                del running[pid]
                path = folder / "record.json"
                missing = {
                    "part": part,
                    "number": number,
                    "kind": "campaign",
                    "outcome": "campaign",
                    "why": "no record",
                }
                record = json.loads(path.read_text()) if path.exists() else missing
                with log.open("a") as stream:
                    stream.write(json.dumps(record) + "\n")
                shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            print(
                f"{shown - began:6.0f} s, {len(waiting) + len(running)} trials to go",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.01)
    return time.monotonic() - began


def _replay(which: str, seed: int, scratch: Path) -> int:
    part, _, number = which.partition("/")
    _prepare(scratch / "templates")
    folder = scratch / "trials" / f"{part}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record = _one(part, int(number), seed, scratch, folder)
    for path in sorted([*folder.glob("*.out"), *folder.glob("*.err")]):
        print(f"--- {path}\n{path.read_bytes()[-6000:].decode('utf8', 'backslashreplace')}")
    print(json.dumps(record, indent=2))
    return 0 if _is_good(record) else 1


def _is_good(record: Record) -> bool:
    from validation.faults.processes import GOOD

    return record["outcome"] in GOOD


def _records(log: Path) -> list[Record]:
    """What was recorded; a line that a kill cut off is left out."""
    found = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[record["part"], record["number"]] = record
    return list(found.values())


def _same_campaign(parser: argparse.ArgumentParser, path: Path, facts: Record) -> None:
    if path.exists():
        old = json.loads(path.read_text())
        if any(old[name] != value for name, value in facts.items()):
            parser.error(
                f"{path.parent} holds the campaign {old}, not {facts}: remove it or name another "
                "--scratch"
            )
    else:
        path.write_text(json.dumps({**facts, "spent": 0.0}))


def _commit(source: Path) -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=source, capture_output=True, text=True, check=False
        ).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")


def _without_places(line: str, scratch: Path) -> str:
    """A line without where this machine keeps the trials and the code, also where it is cut."""
    line = re.sub(r"/\S*/(?=trials/|templates/)", "", line)
    for place in (scratch, Path(__file__).resolve().parents[2]):
        line = line.replace(f"{place}/", "")
        parts = [f"/{'/'.join(place.parts[1:n])}" for n in range(len(place.parts), 1, -1)]
        line = re.sub(rf"({'|'.join(map(re.escape, parts))})[^\s'\"]*(?=\W*$)", "...", line)
    return line


def _write_summary(
    output: Path,
    facts: Record,
    counts: dict[str, int],
    records: list[Record],
    spent: float,
    state: Path,
) -> None:
    """One small file: counts by part, kind and outcome, and the first of whatever fell short,
    alike ones together.
    """
    from importlib.metadata import version

    from validation.faults.targets import missing

    before = json.loads(state.read_text())["spent"]
    state.write_text(json.dumps({**facts, "spent": before + spent}))
    table: dict[str, dict[str, dict[str, int]]] = {}
    for part in PARTS:
        kinds: dict[str, Counter[str]] = {}
        for record in (r for r in records if r["part"] == part):
            kinds.setdefault(record["kind"], Counter())[record["outcome"]] += 1
        table[part] = {kind: dict(sorted(kinds[kind].items())) for kind in sorted(kinds)}
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda r: (PARTS.index(r["part"]), r["number"])):
        if not _is_good(record):
            alike = re.sub(r"/\S+|0x[0-9a-f]+|\d+|'[^']*'", "_", record.get("why", ""))[:90]
            groups.setdefault((record["part"] + ": " + record["outcome"], alike), []).append(record)
    short = [
        {
            "outcome": outcome,
            "trials": len(each),
            "first": f"{each[0]['part']}/{each[0]['number']}",
            "kind": each[0]["kind"],
            "what": " ".join(str(each[0].get(name, "")) for name in ("command", "what")).strip()[
                :160
            ],
            "line": _without_places(each[0].get("why", ""), state.parent)[:300],
        }
        for (outcome, _), each in sorted(
            groups.items(), key=lambda item: (item[0][0], -len(item[1]))
        )
    ]
    summary = {
        **facts,
        "machine": (
            f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"
        ),
        "versions": {
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("torch", "pytorch-lightning", "jsonargparse", "h5py", "numpy")
            },
        },
        "seconds": round(before + spent),
        "trials": {
            part: [len([r for r in records if r["part"] == part]), counts[part]] for part in PARTS
        },
        "outcomes": dict(sorted(Counter(r["outcome"] for r in records).items())),
        "samples compared": sum(r.get("compared", 0) for r in records),
        "silent differences": sum(r["outcome"] == "silent difference" for r in records),
        "never called": missing(),
        "table": table,
        "short": short[:200],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(summary, indent=1, ensure_ascii=True) + "\n")
