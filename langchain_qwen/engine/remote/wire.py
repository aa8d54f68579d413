"""A request as vLLM's completions API wants it, and the answer's lines as the engine's events."""

from __future__ import annotations

import codecs
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from langchain_qwen.engine.protocol import Event, Finished, Request, Started, Token
from langchain_qwen.engine.vllm.parameters import likeliest, sampling_fields
from langchain_qwen.errors import EngineError, ServerCapabilityError

LONGEST_LINE = 16 << 20  # bytes; the first one repeats the prompt's ids
PROVEN = 32  # tokens whose text was what it should be: it is the same tokenizer
GUIDANCE = "--structured-outputs-config.backend guidance"


class NonsenseError(Exception):
    """The server wrote what this API does not have; a message, for whoever catches it."""


class ToldError(Exception):
    """The server reports an error within the stream."""

    def __init__(self, body: Mapping[str, Any]):
        super().__init__()
        self.body = body


def body(model: str, request: Request) -> dict[str, Any]:
    """The request as JSON.

    Raises:
        InvalidParameterError: A bias that the server would change.
    """
    return {
        **sampling_fields(request),
        "model": model,
        "prompt": list(request.prompt_ids),
        "add_special_tokens": False,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        **({} if request.top_logprobs is None else {"return_tokens_as_token_ids": True}),
    }


class Reply:
    """Reads one answer. It trusts nothing: ids, text and grammar are compared with what they have to be.

    Args:
        request: What was asked.
        decode: Text of token ids, to see that the server has the same tokenizer.
        vocab_size: Of that tokenizer.
    """

    def __init__(self, request: Request, decode: Callable[[Sequence[int]], str], vocab_size: int):
        self.tokens: list[int] = []
        self.begun = False
        self.finished = False
        self.moved = time.monotonic()
        """When the last event came: what keeps a connection alive is none."""
        self._request = request
        self._decode = decode
        self._vocab_size = vocab_size
        self._matcher = request.constraint.matcher() if request.constraint else None
        self._rest = b""
        self._text = ""
        self._sent = self.moved
        self._first = self.moved
        self._reason: Literal["stop", "length"] | None = None
        self._cached: int | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that some more bytes complete.

        Raises:
            ToldError: The server reports an error.
            NonsenseError: These are no events of this API.
            ServerCapabilityError: The server does not do what was asked.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise NonsenseError("a line without end")
        for line in lines:
            if self.finished:
                return
            field, _, value = line.removeprefix(codecs.BOM_UTF8).partition(b":")  # the first one may begin with it
            if field == b"data":  # others are comments, and names of events
                yield from self._read(value.strip())

    def end(self) -> Iterator[Event]:
        """The last event where the stream ended behind the whole answer and before it said so."""
        if self._reason is not None and not self.finished:
            yield self._finish()

    def _read(self, value: bytes) -> Iterator[Event]:
        if value == b"[DONE]":
            if self._reason is None:
                raise NonsenseError("an end without a reason")
            yield self._finish()
            return
        try:
            event = json.loads(value)
            if "error" in event:
                raise ToldError(event["error"] if isinstance(event["error"], dict) else event)
            if usage := event.get("usage"):
                self._cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", self._cached)
            events = [found for choice in event.get("choices", ()) for found in self._choice(choice)]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise NonsenseError(f"{type(error).__name__} in {value[:100]!r}") from error
        yield from events

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        if self._reason is not None:
            return
        ids = choice.get("token_ids")
        if ids is None and (choice.get("text") or choice.get("finish_reason")):
            raise ServerCapabilityError(
                "the server answers without token ids: it has to be a recent vLLM, Ray Serve LLM over it, or another "
                "one that knows `return_token_ids`"
            )
        self.moved = time.monotonic()
        if not self.begun:
            yield self._begin(choice)
        told = choice.get("stop_reason")  # one of its own, perhaps
        stops = {*self._request.stop_ids, told} if isinstance(told, int) else self._request.stop_ids
        logprobs = choice.get("logprobs")
        for position, token in enumerate(ids or ()):
            if token in stops:  # the server sends it; it is no part of the answer
                break
            yield self._token(token, position, logprobs)
        self._compare(choice.get("text") or "")
        if reason := choice.get("finish_reason"):
            self._end(reason)

    def _begin(self, choice: Mapping[str, Any]) -> Started:
        self.begun = True
        self._first = self.moved
        seen = choice.get("prompt_token_ids")
        if seen is not None and tuple(seen) != self._request.prompt_ids:
            raise ServerCapabilityError(
                "the server changed the prompt's token ids; it has to take them as they are (vLLM's /v1/completions)"
            )
        return Started(len(self._request.prompt_ids), None, 0.0, self._first - self._sent)

    def _token(self, token: Any, position: int, logprobs: Mapping[str, Any] | None) -> Token:
        if type(token) is not int or not 0 <= token < self._vocab_size:
            raise _other_vocabulary(f"it wrote the token {token!r}")
        if self._matcher is not None:
            try:
                self._matcher.accept(token)
            except EngineError as error:
                raise _without_grammar(f"token {len(self.tokens)} of its answer does not fit") from error
        self.tokens.append(token)
        count = self._request.top_logprobs
        if count is None:
            return Token(token)
        if not logprobs:
            raise ServerCapabilityError("the server sends no log probabilities; start it with `--max-logprobs 20`")
        likely = logprobs["top_logprobs"][position] if count else {}
        best = likeliest(((_id(name), value) for name, value in likely.items()), count)
        return Token(token, logprobs["token_logprobs"][position], best)

    def _compare(self, text: str) -> None:
        """Ids that come back as they went prove nothing; their text does. It may lag behind by what is no character."""
        if len(self.tokens) > PROVEN:
            return
        self._text += text
        theirs, ours = self._text.partition("\ufffd")[0], self._decode(self.tokens).partition("\ufffd")[0]
        if not (ours.startswith(theirs) or theirs.startswith(ours)):
            raise _other_vocabulary(f"it reads {self.tokens} as {theirs[:80]!r} and `tokenizer` as {ours[:80]!r}")

    def _end(self, reason: Any) -> None:
        if reason not in ("stop", "length"):
            raise ToldError({"message": f"the answer ended with {reason!r}"})
        if reason == "stop" and self._matcher is not None and not self._matcher.may_end:
            raise _without_grammar("its answer ends where none may")
        self._reason = reason

    def _finish(self) -> Finished:
        assert self._reason is not None
        self.finished = True
        decoding = self.moved - self._first
        return Finished(self._reason, len(self.tokens), 0, 0, decoding, self._cached)


def _id(name: str) -> int:
    """Of "token_id:N"."""
    return int(name.removeprefix("token_id:"))


def _other_vocabulary(what: str) -> ServerCapabilityError:
    return ServerCapabilityError(
        f"the server's model has another vocabulary than `tokenizer`: {what}; name the folder or hub id of the model "
        "that it serves"
    )


def _without_grammar(what: str) -> ServerCapabilityError:
    return ServerCapabilityError(
        f"the server does not keep to the grammar that it was sent ({what}); start vLLM with `{GUIDANCE}`"
    )
