"""Forked commands under a watch, and what counts as a good end.

The package is imported once, before the first fork and before any thread: a command then starts in
milliseconds. Every command has its own session, folder, output files and temporary folder; its
resident memory, with that of its children, is read every 50 ms.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["GOOD", "Result", "alive", "cli", "judge", "start", "watch"]

GOOD = ("ok", "warned", "refused", "type error")
SECONDS = 60.0
MEMORY = 2 * 1024**3
# What no trial may do to this machine; below it memory is only watched.
DATA, FILE = 8 * 1024**3, 1024**3
MARK = "WAVELIT_FAULTS"


@dataclass
class Result:
    """How a command ended: exit status, or minus the signal; `stopped` says why the watch ended
    it.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak: int = 0
    stopped: str = ""
    left: int = 0

    @property
    def last(self) -> str:
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


@dataclass
class Process:
    """A started command."""

    pid: int
    folder: Path
    stem: str
    mark: str
    began: float


def cli(words: Sequence[str]) -> Callable[[], int]:
    """The command line as a program runs it."""
    # Imported here: an interrupt while Python starts is no business of the program's.
    from wavelit.cli.program import main

    def run() -> int:
        # Lightning starts the same program again for further devices.
        sys.argv = [str(Path(sys.executable).with_name("wavelit")), *words]
        return main()

    return run


def start(
    function: Callable[[], int | None], folder: Path, stem: str = "command", **environment: str
) -> Process:
    """Fork a process that calls `function` in `folder` and exits as Python would."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{stem}-{time.monotonic_ns()}"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.setsid()
            for number, name in ((1, "out"), (2, "err")):
                file = os.open(folder / f"{stem}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # Inherited buffers and a test's replacements stay behind.
            text: dict[str, Any] = {
                "encoding": "utf8",
                "errors": "backslashreplace",
                "closefd": False,
            }
            sys.stdout = open(1, "w", **text)  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, **text)  # noqa: SIM115
            os.environ.update({MARK: mark, **environment})
            tempfile.tempdir = None
            os.chdir(folder)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_DATA, (DATA, DATA))
            resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            status = _call(function)
        finally:
            os._exit(status)
    return Process(pid, folder, stem, mark, time.monotonic())


def _call(function: Callable[[], int | None]) -> int:
    try:
        status = function() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        status = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status & 0xFF


def watch(
    process: Process,
    seconds: float = SECONDS,
    signals: Sequence[tuple[float, int]] = (),
    linger: float = 15.0,
) -> Result:
    """Wait for a command, send it signals at moments, stop it where it takes too long or too much
    memory.

    Args:
        process: From `start`.
        seconds: Longest time.
        signals: (seconds after the start, signal).
        linger: Time for its descendants to end after it.
    """
    due, stopped, peak, looked = sorted(signals), "", 0, 0.0
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        passed = time.monotonic() - process.began
        while due and passed >= due[0][0]:
            os.kill(process.pid, due.pop(0)[1])
        if passed - looked > 0.05:
            looked = passed
            peak = max(peak, _resident(process.pid))
        if not stopped and (passed > seconds or peak > MEMORY):
            stopped = "memory" if peak > MEMORY else "hang"
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.005)
    passed = time.monotonic() - process.began
    limit = time.monotonic() + linger
    while (left := alive(process.mark, process.pid)) and time.monotonic() < limit and not stopped:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    peak = max(peak, usage.ru_maxrss * 1024)
    if peak > MEMORY and not stopped:
        stopped = "memory"
    code = os.waitstatus_to_exitcode(status)
    out, err = (_text(process.folder / f"{process.stem}.{name}") for name in ("out", "err"))
    return Result(code, out, err, passed, peak, stopped, 0 if stopped else len(left))


def _text(path: Path) -> str:
    # Killed before it began, a process has no file.
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return file.read(1_000_000).decode("utf8", "backslashreplace")


def _resident(pid: int) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (str(pid), *children):
            total += (
                int(Path(f"/proc/{each}/statm").read_text().split()[1]) * resource.getpagesize()
            )
    return total


def alive(mark: str, session: int) -> list[int]:
    """Processes that a command left: of its session, or with its mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (name) state parent group session ...
            rest = (entry / "stat").read_text().rpartition(")")[2].split()
            if rest[0] in "ZX":
                continue
            ours = int(rest[3]) == session
            if ours or f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def judge(result: Result, names: Sequence[str], flags: Sequence[Path] = ()) -> tuple[str, str]:
    """The outcome of a command line, and the line that shows it.

    Args:
        result: How it ended.
        names: A refusal must hold one of them.
        flags: Files that exist only if something was executed that should not have been.
    """
    if any(flag.exists() for flag in flags):
        return "code executed", result.last
    if result.stopped:
        return result.stopped, f"{result.seconds:.0f} s, {result.peak / 1e6:.0f} MB; {result.last}"
    if result.status < 0:
        return "signal", f"{signal.Signals(-result.status).name}; {result.last}"
    if "Traceback (most recent call last)" in result.err or "Exception ignored" in result.err:
        return "traceback", _origin(result.err)
    if result.left:
        return "descendants", f"{result.left} processes left; {result.last}"
    # The parser's own help has a backspace there.
    said = (result.out + result.err).replace("--print_config \b", "--print_config ")
    shown = re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\u202e", said)
    if shown:
        return "control characters", repr(said[max(0, shown.start() - 80) :][:160])
    if result.status == 0:
        return ("warned" if "warning:" in result.err + result.out else "ok"), ""
    lines = [line for line in result.err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("wavelit: error:")]
    if result.status != 2 or len(errors) != 1:
        return "wrong exit status", f"{result.status}, {len(errors)} lines of error; {result.last}"
    if lines[-1] != errors[0]:
        return "more than one line", f"{errors[0][:150]} | {lines[-1][:150]}"
    # Of a training that diverges, the option is the learning rate; the parser lists words that are
    # no options. A folder that cannot be made is named where it begins to be none.
    above = [str(parent) for name in names if name.startswith("/") for parent in Path(name).parents]
    told = (
        *names,
        *(name for name in above if name.count("/") > 1),
        "lower lr",
        "unrecognized arguments: ",
        "are required: ",
    )
    if not any(name and name in errors[0] for name in told):
        return "names nothing", errors[0][:300]
    return "refused", errors[0][:300]


def _origin(err: str) -> str:
    """The last line of the last traceback, and the innermost line of the package in it."""
    text = err[err.rfind("Traceback (most recent call last)") :] if "Traceback" in err else err
    places = re.findall(r'File "[^"]*/(wavelit/[^"]+)", line (\d+), in (\S+)', text)
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "Traceback"))]
    where = f" ({places[-1][0]}:{places[-1][1]} {places[-1][2]})" if places else ""
    return f"{lines[0][:250] if lines else ''}{where}"
