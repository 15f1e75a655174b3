"""Units as texts: whether two spellings mean the same, and how long those of time are."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["same_time_unit", "same_unit", "seconds_in", "units_differ"]

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}

# A symbol, what comes before it and its exponent: "/ s**2", "m", ".kg^-1".
FACTOR = re.compile(r"\s*([/*.·]?)\s*([^\W\d_]+|[%°])\s*(?:(?:\*\*|\^)?([-+]?\d+))?")


def same_unit(one: str, other: str) -> bool:
    """Whether two units are spelled alike, or differ in signs and order alone.

    >>> same_unit("m s**-1", "m/s"), same_unit("kg m-3", "m^-3.kg")
    (True, True)
    >>> same_unit("m s-1", "ms-1"), same_unit("m m", "mm")
    (False, False)

    Args:
        one: Symbols with whole exponents, such as "m s-1". Of any other text the words count.
        other: Likewise.
    """
    ours, theirs = _factors(one), _factors(other)
    if ours is None or theirs is None:
        return one.split() == other.split()
    return ours == theirs


def _factors(unit: str) -> dict[str, int] | None:
    """Exponents by symbol; None of what is no product of powers."""
    found: Counter[str] = Counter()
    rest = re.sub(r"^\s*1\s*(?=[/*.·])", "", unit.strip())
    while rest:
        match = FACTOR.match(rest)
        if match is None:
            return None
        sign, symbol, power = match.groups()
        found[symbol] += int(power or 1) * (-1 if sign == "/" else 1)
        rest = rest[match.end() :]
    return {symbol: power for symbol, power in found.items() if power}


def units_differ(one: str, other: str) -> bool:
    """Whether two units are known, and not the same."""
    return bool(one and other and not same_unit(one, other))


def seconds_in(unit: str) -> float | None:
    """Seconds in a unit of time, as in "hours" or "days since 2000-01-01"; None of another."""
    return SECONDS.get(_word(unit))


def same_time_unit(one: str, other: str) -> bool:
    """Whether two units of time are one, wherever they count from."""
    known = seconds_in(one)
    return _word(one) == _word(other) or (known is not None and known == seconds_in(other))


def _word(unit: str) -> str:
    return (unit.split() or [""])[0].lower()
