"""Number plans of phonenumbers' metadata as patterns in RE2: its own parser takes a thousand times as long.

Only lengths and patterns of national numbers count here; that a number is assigned to somebody, no plan says.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import phonenumbers
import re2
from phonenumbers import PhoneMetadata

# National numbers carry no country; these count.
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "AT", "BE", "SE", "PL", "AU", "BR", "IN", "JP", "CN")
_KINDS = (
    "fixed_line mobile toll_free premium_rate shared_cost personal_number voip pager uan voicemail".split()  # noqa: SIM905
)
_LONGEST_CODE = 3


def is_national(digits: str) -> bool:
    """Whether a plan of `REGIONS` has this number, with or without its national prefix or country code."""
    return _national().fullmatch(digits.encode()) is not None


def is_international(digits: str, *, exact: bool = False) -> bool:
    """Whether digits are a country code and a number as long as that country's; with `exact`, one of its plan."""
    for length in range(1, _LONGEST_CODE + 1):
        if plan := _plan(digits[:length]):
            lengths, pattern = plan
            number = digits[length:].encode()
            return pattern.fullmatch(number) is not None if exact else len(number) in lengths
    return False


def _numbers(data: Any) -> str:
    kinds = (getattr(data, kind) for kind in _KINDS)
    return "|".join(kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern)


def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = 64 << 20
    return re2.compile(pattern, options)


@cache
def _national() -> Any:
    regions: list[Any] = [PhoneMetadata.metadata_for_region(region) for region in REGIONS]
    return _compile(
        "|".join(f"(?:{data.country_code})?(?:{data.national_prefix or ''})?(?:{_numbers(data)})" for data in regions)
    )


@cache
def _plan(code: str) -> tuple[frozenset[int], Any] | None:
    """The lengths and the pattern of a country code; None where it is none."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code or 0))
    if not regions or code.startswith("0"):
        return None
    plans: list[Any] = [PhoneMetadata.metadata_for_region_or_calling_code(int(code), region) for region in regions]
    prefixes = {0, *(len(plan.national_prefix) for plan in plans if plan and plan.national_prefix)}
    lengths = {n + more for plan in plans if plan for n in plan.general_desc.possible_length for more in prefixes}
    return frozenset(lengths), _compile("|".join(_numbers(plan) for plan in plans if plan))
