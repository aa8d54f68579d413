"""Regular expressions for numbers in a range, in plain decimal notation.

llguidance has these too, but it computes bounds in 64-bit floats and integers, lets a number have endless digits, and
takes an open bound by its digits, although 0.99999999999999999 is read back as 1.0. Here bounds are exact and closed,
and digits are limited, so that a model that repeats itself cannot write one number forever.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

INTEGER_DIGITS = 39  # enough for 128 bits
FRACTION_DIGITS = 20
_SCALE = 10**FRACTION_DIGITS
# What may follow one digit other than 0. Exponents stay below 300, so that what is read back is finite.
_SCIENTIFIC = rf"(?:\.[0-9]{{1,{FRACTION_DIGITS}}})?[eE][+-]?(?:[12]?[0-9])?[0-9]"
_EXACT = Context(prec=2000)
_LARGEST, _LARGEST_BOUND = Decimal("1e300"), Decimal("1e60")


def integers(low: int | None, high: int | None) -> str | None:
    """A pattern for the integers from `low` to `high`, both included; None where there are none."""
    return _either(_signed(low, high, _naturals))


def decimals(low: Decimal | None, high: Decimal | None) -> str | None:
    """A pattern for numbers from `low` to `high`, both included; None where there are none.

    Numbers have up to 20 digits after the point. Towards an open end, scientific notation is allowed too.
    """
    first = None if low is None else _scaled(low, ROUND_CEILING)
    last = None if high is None else _scaled(high, ROUND_FLOOR)
    options = _signed(first, last, _fixed_point)
    if last is None and (first is None or first <= 1):
        options.append(f"[1-9]{_SCIENTIFIC}")
    if first is None and (last is None or last >= -1):
        options.append(f"-[1-9]{_SCIENTIFIC}")
    return _either(options)


def closed_bound(bound: float | Decimal, *, exclusive: bool, upper: bool) -> Decimal:
    """The closed bound on the digits of a number that keeps it within `bound` when it is read back.

    Reading rounds to the nearest float and is monotone, so the digits of a float are a safe closed bound. Integers are
    read exactly; beyond 2**53 a float differs from the shortest digits that stand for it, and both have to be kept.
    """
    exact = Decimal(bound)
    nearest = float(bound)
    inside = Decimal(nearest)
    if (inside > exact if upper else inside < exact) or (exclusive and inside == exact):
        nearest = math.nextafter(nearest, -math.inf if upper else math.inf)
    nearest += 0.0  # never -0, whose further digits would lead below it
    candidates = (Decimal(repr(nearest)), Decimal(nearest)) if abs(nearest) >= 2**53 else (Decimal(repr(nearest)),)
    return min(candidates) if upper else max(candidates)


def writable(low: Decimal | None, high: Decimal | None) -> tuple[Decimal | None, Decimal | None] | None:
    """Bounds with a sane number of digits, no wider than these; None where no number is between them.

    Beyond `_LARGEST` a bound says nothing, since numbers are not written that large.
    """
    low = None if low is None or low <= -_LARGEST else max(low, -_LARGEST_BOUND)
    high = None if high is None or high >= _LARGEST else min(high, _LARGEST_BOUND)
    if (low is not None and low > _LARGEST_BOUND) or (high is not None and high < -_LARGEST_BOUND):
        return None
    return low, high


def _scaled(bound: Decimal, rounding: str) -> int:
    """In units of the last digit after the point."""
    return int(bound.scaleb(FRACTION_DIGITS, _EXACT).to_integral_value(rounding, _EXACT))


def _signed(low: int | None, high: int | None, magnitudes: Callable[[int, int | None], str]) -> list[str]:
    """Patterns for the part of a range below zero and for the rest."""
    if low is not None and high is not None and low > high:
        return []
    options = []
    if low is None or low < 0:
        nearest = 1 if high is None or high >= 0 else -high
        options.append("-" + magnitudes(nearest, None if low is None else -low))
    if high is None or high >= 0:
        options.append(magnitudes(max(low or 0, 0), high))
    return options


def _naturals(low: int, high: int | None) -> str:
    """Whole numbers in a range that is not empty."""
    if high is None:
        high = 10 ** max(INTEGER_DIGITS, len(str(low))) - 1
    if low == 0:
        return _group(["0", *([_naturals(1, high)] if high else [])])
    shortest, longest = len(str(low)), len(str(high))
    if shortest == longest:
        return _same_length(str(low), str(high))
    parts = []
    if low > 10 ** (shortest - 1):
        parts.append(_same_length(str(low), "9" * shortest))
        shortest += 1
    if high < 10**longest - 1:
        parts.append(_same_length("1" + "0" * (longest - 1), str(high)))
        longest -= 1
    if shortest <= longest:
        parts.append(f"[1-9][0-9]{{{shortest - 1},{longest - 1}}}")
    return _group(parts)


def _same_length(low: str, high: str) -> str:
    """Digit strings between two of the same length."""
    rest = len(low) - 1
    if not low:
        return ""
    if low[0] == high[0]:
        return low[0] + _same_length(low[1:], high[1:])
    first, last = int(low[0]), int(high[0])
    parts = []
    if set(low[1:]) - {"0"}:
        parts.append(low[0] + _same_length(low[1:], "9" * rest))
        first += 1
    if set(high[1:]) - {"9"}:
        parts.append(high[0] + _same_length("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}]" + _digits(rest))
    return _group(parts)


def _fixed_point(low: int, high: int | None) -> str:
    """Numbers with a fraction; the bounds are in units of its last digit."""
    if high is None:
        high = 10 ** max(INTEGER_DIGITS + FRACTION_DIGITS, len(str(low))) - 1
    (low_whole, low_rest), (high_whole, high_rest) = divmod(low, _SCALE), divmod(high, _SCALE)
    if low_whole == high_whole:
        return str(low_whole) + _fraction(low_rest, high_rest)
    parts = []
    if low_rest:
        parts.append(str(low_whole) + _fraction(low_rest, _SCALE - 1))
        low_whole += 1
    if high_rest < _SCALE - 1:
        parts.append(str(high_whole) + _fraction(0, high_rest))
        high_whole -= 1
    if low_whole <= high_whole:
        parts.append(_naturals(low_whole, high_whole) + _fraction(0, _SCALE - 1))
    return _group(parts)


def _fraction(low: int, high: int) -> str:
    """The point and what follows it, which may be nothing if that stands for a number in the range."""
    pattern = r"\." + _shorter(f"{low:0{FRACTION_DIGITS}}", f"{high:0{FRACTION_DIGITS}}", at_least=1)
    return f"(?:{pattern})?" if low == 0 else pattern


def _shorter(low: str, high: str, *, at_least: int = 0) -> str:
    """Digit strings that are between two of the same length when filled up with zeros."""
    rest = len(low) - 1
    if set(low) <= {"0"} and set(high) <= {"9"}:
        return f"[0-9]{{{at_least},{len(low)}}}" if low else ""
    if set(high) == {"0"}:
        return f"0{{{at_least},{len(low)}}}"
    if low[0] == high[0]:
        parts = [low[0] + _shorter(low[1:], high[1:])]
    else:
        parts = [low[0] + _shorter(low[1:], "9" * rest)]
        if int(high[0]) - int(low[0]) > 1:
            parts.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}][0-9]{{0,{rest}}}")
        parts.append(high[0] + _shorter("0" * rest, high[1:]))
    if not at_least and set(low) == {"0"}:
        parts.append("")
    return _group(parts)


def _digits(count: int) -> str:
    return f"[0-9]{{{count}}}" if count else ""


def _group(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def _either(options: list[str]) -> str | None:
    return "|".join(options) if options else None
