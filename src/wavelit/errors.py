"""The one error that a user's mistake raises: a single line that says what was expected, what
came and the fix.
"""

from __future__ import annotations

import errno
import re

__all__ = ["WavelitError", "one_line", "printable", "system_error"]

# Longest name that is printed or drawn whole.
LONGEST = 200


class WavelitError(ValueError):
    """A mistake that the user can mend; the command line prints it as one line and exits with
    status 2.
    """


def one_line(error: BaseException) -> str:
    """What another library says, on one line of at most 200 characters."""
    return printable(" ".join(str(error).split()), 200)


def printable(text: object, longest: int = LONGEST) -> str:
    """Text from a file as it may be shown: no control characters, invalid Unicode escaped, at
    most `longest` characters.
    """
    clean = str(text).encode("utf8", "backslashreplace").decode("utf8")
    # C0, C1, line separators, and what turns the direction of writing.
    clean = re.sub(
        "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]",
        lambda found: found.group().encode("unicode_escape").decode(),
        clean,
    )
    return clean if len(clean) <= longest else f"{clean[: longest - 3]}..."


FIXES = {
    errno.ENOSPC: "free space there, or choose another folder",
    errno.EDQUOT: "free space in your quota, or choose another folder",
    errno.EFBIG: "choose a filesystem that takes larger files",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may read and write, or change its permissions",
    errno.EPERM: "choose a folder that you may read and write, or change its permissions",
    errno.ENOTDIR: "a part of this path is a file: choose another",
    errno.EISDIR: "this is a folder: name a file",
    errno.ENOENT: "make it, or name another",
    errno.EEXIST: "move it away, or name another",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "it is a loop of links: remove it",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`), or ask for fewer",
    errno.ENOMEM: "free memory, or ask for less",
    errno.EIO: "check the disk",
    errno.ESTALE: "the network drive has gone: mount it again",
    errno.ETIMEDOUT: "check the network and the address",
    errno.ECONNREFUSED: "check the network and the address",
    errno.EHOSTUNREACH: "check the network and the address",
    errno.ENETUNREACH: "check the network and the address",
}


def system_error(error: OSError) -> str:
    """What the operating system refused, as one line: the file, the reason, the fix."""
    number = error.errno
    reason = error.strerror or one_line(error)
    if isinstance(error.filename, bytes | str):
        where = printable(
            error.filename
            if isinstance(error.filename, str)
            else error.filename.decode("utf8", "replace")
        )
    else:
        where = "the operating system refused"
    fix = FIXES.get(number or 0, "check that it is there and may be read and written")
    return f"{where}: {printable(reason)}: {fix}"
