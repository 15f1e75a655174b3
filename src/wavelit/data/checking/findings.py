"""What is wrong with a dataset: one line each, errors and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wavelit.errors import WavelitError

__all__ = ["Finding", "error_of", "merged"]


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a dataset: severity "error" or "warning", the file or folder, one
    line.
    """

    severity: str
    file: str
    message: str


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """One warning for all the files that it is true of."""
    files: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        files.setdefault((finding.severity, finding.message), []).append(finding.file)
    every = []
    for (severity, message), names in files.items():
        if severity == "error" or len(names) == 1:
            every += [Finding(severity, name, message) for name in names]
        else:
            every.append(
                Finding(severity, names[0], f"{message} (and in {len(set(names)) - 1} more files)")
            )
    return every


def error_of(file: str, error: WavelitError) -> Finding:
    """The finding that an error makes."""
    return Finding("error", file, str(error).removeprefix(f"{file}: "))
