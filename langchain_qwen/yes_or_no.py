"""Questions that a model answers in one token, Yes or No, read as log odds."""

from __future__ import annotations

import math
from typing import Any

from langchain_core.messages import BaseMessage

ONE_TOKEN: dict[str, Any] = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
"""What to bind to the model that is asked."""

_SMALLEST = 1e-6


def log_odds(answer: BaseMessage) -> float | None:
    """The log odds of Yes against No from the log probabilities of the first token; None where there are none."""
    content = (answer.response_metadata.get("logprobs") or {}).get("content")
    if not content:
        return None
    shares = {"yes": _SMALLEST, "no": _SMALLEST}
    for token in content[0]["top_logprobs"]:
        word = token["token"].strip().lower()
        if word in shares:
            shares[word] += math.exp(token["logprob"])
    return math.log(shares["yes"] / shares["no"])
