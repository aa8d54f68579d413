"""What goes wrong between here and a server, as this package's errors, and what may be tried again."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from langchain_qwen.engine.remote.wire import GUIDANCE
from langchain_qwen.errors import (
    ModelNotFoundError,
    QwenError,
    RequestError,
    ServerAccessError,
    ServerBusyError,
    ServerCapabilityError,
    ServerError,
    ServerUnreachableError,
)

SHOWN = 500  # characters of a server's own words
TOO_LONG = re.compile(r"context length|max_model_len|maximum (model|context)|too long", re.IGNORECASE)
VOCABULARY = re.compile(r"out of vocabulary|vocab", re.IGNORECASE)
GRAMMAR = re.compile(r"grammar|structured|guidance|xgrammar", re.IGNORECASE)


class Failure(Exception):  # noqa: N818  carries an error
    """An error, and whether the same request may succeed when it is sent again.

    Attributes:
        error: What the caller gets when all is in vain.
        again: Whether to try again.
        after: Seconds that the server asks to wait.
    """

    def __init__(self, error: QwenError, *, again: bool = False, after: float | None = None):
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.after = after


class TooLongError(Exception):
    """The server says that prompt and answer do not fit; its words."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom requests go to and errors speak of.

    Attributes:
        url: Of the API.
        model: What it calls the model.
        key: Kept out of everything that is shown.
    """

    url: str
    model: str
    key: str | None = field(repr=False)

    def quoted(self, text: str) -> str:
        """A server's words for a message: short, on one line, without the key."""
        if self.key:
            text = text.replace(self.key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def of_status(server: Server, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """What an answer other than 200 means.

    Raises:
        TooLongError: Prompt and answer do not fit.
    """
    return of_error(server, status, words(content), headers.get("retry-after"))


def of_error(server: Server, status: int, text: str, retry_after: str | None = None) -> Failure:
    """The same of a status and the server's words, which may also come within a stream.

    Raises:
        TooLongError: Prompt and answer do not fit.
    """
    said = f" It says: {server.quoted(text)}" if text else ""
    if status in (401, 403):
        what = f"{server.url} refuses the key ({status})" if server.key else f"{server.url} wants a key ({status})"
        return Failure(ServerAccessError(f"{what}; set `api_key`.{said}"))
    if status == 404:
        return Failure(
            ModelNotFoundError(
                f"{server.url} has no completions of a model {server.model!r} (404). `model` is the server's name for "
                f"it, as GET {server.url}/models tells, and `base_url` usually ends in /v1.{said}"
            )
        )
    if 300 <= status < 400 or status == 405:
        return Failure(ServerError(f"{server.url} sends elsewhere or knows no POST ({status}); correct `base_url`"))
    if status in (400, 413, 422):
        if TOO_LONG.search(text):
            raise TooLongError(server.quoted(text))
        if GRAMMAR.search(text):
            return Failure(_grammar(server, said))
        if VOCABULARY.search(text):
            what = f"the model at {server.url} has another vocabulary than `tokenizer`; name its own."
            return Failure(ServerCapabilityError(what + said))
        return Failure(RequestError(f"{server.url} does not take this request ({status}).{said}"))
    if status in (429, 503):
        busy = ServerBusyError(f"{server.url} has too much to do ({status}); ask again later, or for less.{said}")
        return Failure(busy, again=True, after=seconds(retry_after))
    if GRAMMAR.search(text):
        return Failure(_grammar(server, said))
    failed = ServerError(f"{server.url} failed ({status}); its log says why.{said}")
    return Failure(failed, again=status == 408 or status >= 500, after=seconds(retry_after))


def of_exception(server: Server, error: httpx.HTTPError | httpx.StreamError | httpx.InvalidURL) -> Failure:
    """What httpx raises before anything of an answer has come."""
    if certificate := _tls(error):
        return Failure(
            ServerUnreachableError(
                f"no TLS connection to {server.url} ({server.quoted(certificate)}); check http against https in "
                "`base_url`, and for a certificate of your own set SSL_CERT_FILE to its authority's file"
            )
        )
    why = server.quoted(str(error)) or type(error).__name__
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
        what = f"nobody answers at {server.url} ({why}); check `base_url`, and whether the server runs"
        return Failure(ServerUnreachableError(what), again=True)
    if isinstance(error, (httpx.TransportError, httpx.StreamError)):
        what = f"{server.url} closed the connection before it answered ({why}); its log may say why"
        return Failure(ServerUnreachableError(what), again=True)
    return Failure(ServerError(f"{server.url} answers with what is no HTTP ({why})"))


def words(content: bytes) -> str:
    """The message in an error's body: OpenAI's form, that of FastAPI and Ray, or text."""
    text = content.decode("utf-8", errors="replace")
    try:
        return message_of(json.loads(text)) or text
    except (ValueError, RecursionError):
        return text


def message_of(found: Any) -> str:
    """The message in an error's JSON; empty where there is none."""
    while isinstance(found, dict):
        found = next((found[name] for name in ("error", "message", "detail") if found.get(name)), "")
    return found if isinstance(found, str) else json.dumps(found)


def seconds(retry_after: str | None) -> float | None:
    """A `Retry-After` in seconds; those with a date are left to our own delays."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return None


def _grammar(server: Server, said: str) -> ServerCapabilityError:
    return ServerCapabilityError(
        f"{server.url} does not take llguidance's grammars; start vLLM with `{GUIDANCE}` (the first grammar of any "
        f"client decides for as long as it runs).{said}"
    )


def _tls(error: BaseException | None) -> str | None:
    """What TLS complained of, if it did."""
    while error is not None:
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error) or "[SSL" in str(error):
            return str(error)
        error = error.__cause__ or error.__context__
    return None
