"""What `action: hash` writes in place of a value: the same for the same value, and no way back without the key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets

from pydantic import SecretStr

from langchain_qwen.errors import InvalidParameterError

KEY_VARIABLE = "LANGCHAIN_QWEN_HASH_KEY"
_SHORTEST_KEY = 16
_TAG_BYTES = 10
_PROCESS_KEY = secrets.token_bytes(32)


class Pseudonyms:
    """Tags of 80 bits (16 letters and digits), by HMAC-SHA256 under a key of the deployment.

    Without the key nobody can try all numbers of a kind until one gives the tag.

    Args:
        key: At least 16 bytes. None takes the environment's LANGCHAIN_QWEN_HASH_KEY, or else a random key of this
            process: equal values then have equal tags within one process only.

    Raises:
        InvalidParameterError: For a key that is too short to be one.
    """

    __slots__ = ("_key",)

    def __init__(self, key: SecretStr | bytes | None = None):
        given = key.get_secret_value().encode() if isinstance(key, SecretStr) else key
        if given is None:
            given = os.environ.get(KEY_VARIABLE, "").encode() or _PROCESS_KEY
        if len(given) < _SHORTEST_KEY:
            raise InvalidParameterError(
                f"the key for `action: hash` has {len(given)} bytes, but needs {_SHORTEST_KEY} or more; make one with "
                f'python -c "import secrets; print(secrets.token_hex(32))" and give it as hash_key= or {KEY_VARIABLE}'
            )
        self._key = given

    def tag(self, value: str) -> str:
        """The tag of a value; upper and lower case are the same."""
        digest = hmac.new(self._key, value.casefold().encode(), hashlib.sha256).digest()
        return base64.b32encode(digest[:_TAG_BYTES]).decode()
