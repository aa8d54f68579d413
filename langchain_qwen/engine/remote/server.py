"""What a server says of itself."""

from __future__ import annotations

import json

from langchain_qwen.engine.remote.failures import Server
from langchain_qwen.errors import ModelNotFoundError, ServerError


def longest_of(server: Server, content: bytes) -> int | None:
    """Tokens of prompt and answer together in the model that is asked for, in what GET /models answers.

    None where it does not say.

    Raises:
        ModelNotFoundError: The server has others.
        ServerError: That is no list of models.
    """
    try:
        found = {model["id"]: model for model in json.loads(content)["data"]}
        mine = found.get(server.model)
        longest = mine.get("max_model_len") if mine else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ServerError(
            f"{server.url}/models is no list of models; `base_url` has to be that of an OpenAI-like API, which usually "
            "ends in /v1"
        ) from error
    if mine is None:
        names = server.quoted(", ".join(map(str, found))) or "none"
        raise ModelNotFoundError(f"{server.url} has no model {server.model!r}; it has: {names}")
    return longest if isinstance(longest, int) and longest > 0 else None
