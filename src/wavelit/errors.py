"""The one error that a user's mistake raises: a single line that says what was expected, what came and the fix."""

__all__ = ["WavelitError", "one_line"]


class WavelitError(ValueError):
    """A mistake that the user can mend; the command line prints it as one line and exits with status 2."""


def one_line(error: BaseException) -> str:
    """What another library says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
