"""One HTTP client for each request.

A kept connection would belong to one event loop, be shared with forked children in the middle of a stream, and hold all
requests of a process to one replica behind a balancer. A new one costs less than a token.
"""

from __future__ import annotations

import functools
import ssl
from typing import Any

import httpx

from langchain_qwen._version import __version__
from langchain_qwen.errors import ConfigurationError


def open_client(base_url: str, key: str | None, connect_s: float) -> httpx.AsyncClient:
    """A client for one request. It waits without end for anything but the connection: `RemoteEngine` keeps the time.

    Args:
        base_url: Of the API, as "http://host:8000/v1".
        key: Sent as a bearer token.
        connect_s: Seconds for the connection, TLS included.

    Raises:
        ConfigurationError: The proxy or the certificates that the environment names cannot be used.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": f"langchain-qwen/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    timeout = httpx.Timeout(None, connect=connect_s)
    try:
        # Redirects are not followed: the key goes where it was meant to go.
        return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout, **way())
    except OSError as error:  # also OpenSSL's
        raise ConfigurationError(
            f"the certificates that the environment names (SSL_CERT_FILE, SSL_CERT_DIR) cannot be read: {error}"
        ) from error
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"the environment names a proxy (HTTP_PROXY, ALL_PROXY) that cannot be used: {error}"
        ) from error


def way() -> dict[str, Any]:
    """How connections are made; the tests have another way. Reading the certificates takes a while: done once."""
    return {"verify": _certificates()}


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()
