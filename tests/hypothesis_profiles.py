"""How long and how randomly hypothesis looks for counterexamples.

Everyday runs take the number of examples that each test names, at random. Profiles change that:

- `ci` is loaded where the environment variable CI is set: the same examples each time, so that a run says something
  about the change and not about luck.
- `fuzz` runs each test `FUZZ_FACTOR` times as long, at random: with `LANGCHAIN_QWEN_HYPOTHESIS=fuzz` in the
  environment, or `pytest --hypothesis-profile=fuzz`.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

FUZZ_FACTOR = 25

settings.register_profile("everyday", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("fuzz", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("LANGCHAIN_QWEN_HYPOTHESIS") or ("ci" if os.environ.get("CI") else "everyday"))


def lengthen(items: list[pytest.Item]) -> None:
    """Lengthen tests under the profile `fuzz`: a number of examples at a test comes before that of a profile."""
    if settings.get_current_profile_name() != "fuzz":
        return
    # Parametrised tests share a function.
    for test in {item.function for item in items if isinstance(item, pytest.Function)}:
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None:
            longer = settings(own, max_examples=FUZZ_FACTOR * own.max_examples)
            test._hypothesis_internal_use_settings = longer  # as hypothesis's own plugin does it
