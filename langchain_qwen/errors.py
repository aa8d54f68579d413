"""Every error this package raises, each saying what is wrong and what to do next.

    QwenError
    ├── ConfigurationError            a setting is wrong (also a ValueError)
    │   ├── UnknownParameterError     no such parameter; names the nearest one
    │   ├── InvalidParameterError     a value out of range, or two that contradict each other
    │   ├── CapabilityError           a model that lacks what is asked of it (also a TypeError)
    │   ├── PersonaError              a persona's definition, file or variables are wrong
    │   └── PolicyError               a safety policy that is not valid, or lacks something
    ├── MissingDependencyError        an extra is not installed (also an ImportError)
    ├── CheckpointError               the weights cannot be used
    │   ├── ModelNotFoundError        no such folder, alias or hub id in reach
    │   ├── IncompleteCheckpointError a half-downloaded or damaged folder
    │   ├── UnsafeWeightsError        pickled weights, which could run code
    │   ├── UnsupportedModelError     not a Qwen2-family causal language model
    │   ├── ChecksumError             a download that is not the official file
    │   ├── UnsafeCacheError          a cache folder that other users can write to
    │   └── PrecisionError            this precision cannot be had here
    ├── RequestError                  this call cannot be answered (also a ValueError)
    │   ├── InvalidMessagesError      empty or impossible conversations
    │   ├── UnsupportedContentError   images, audio, files: the model reads text only
    │   ├── InvalidSchemaError        a tool or output schema that cannot be compiled
    │   ├── BlockedInputError         an input that the safety policy blocks
    │   └── ContextOverflowError      the prompt and the reserved answer exceed the window
    ├── EngineError                   the engine could not finish
    │   ├── EngineClosedError         used after close()
    │   ├── OutOfMemoryError          weights or KV memory do not fit (also a MemoryError)
    │   ├── GenerationTimeoutError    the call's `timeout` passed
    │   └── ServerError               a model server failed, which a caller may ask again
    │       ├── ServerUnreachableError   nobody answers at `base_url`, or no TLS connection comes about
    │       ├── ServerAccessError     it refuses the key
    │       ├── ServerBusyError       it has too much to do (429, 503), also after all retries
    │       ├── ServerTimeoutError    no first token came in time
    │       ├── ServerCapabilityError it lacks what is needed; names the flag that it has to be started with
    │       └── AnswerLostError       it died or stalled in mid-answer; holds the text so far
    ├── OutputTruncatedError          constrained output was cut by max_tokens
    └── OutputFormatError             an answer does not keep to the promised form

Where langchain-core has an error for the same thing, ours inherits from it too, so that generic code
(for instance LangChain's SummarizationMiddleware, which recovers from an overflow) keeps working.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from langchain_core import exceptions as core


class QwenError(Exception):
    """Base class of all errors of langchain-qwen. They can be pickled: a pool of processes hands them to its caller."""

    _keywords: ClassVar[tuple[str, ...]] = ()  # what has to be given by keyword

    def __reduce__(self) -> tuple[Callable[..., QwenError], tuple[Any, ...]]:
        # Python's own way calls the class with the message alone: without required attributes, and with what
        # langchain-core adds to a message added once more.
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[QwenError], args: tuple[Any, ...], attributes: dict[str, Any]) -> QwenError:
    error = kind(*args, **{name: attributes[name] for name in kind._keywords})
    error.args = args
    error.__dict__.update(attributes)
    return error


@contextmanager
def panics_as(kind: type[QwenError], what: str) -> Iterator[None]:
    """Turn a panic of an extension in Rust, a BaseException that `except Exception` lets pass, into an error of ours.

    Args:
        kind: The error.
        what: What failed and what to do; the panic's own words come behind.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise kind(f"{what} ({error})") from error


class ConfigurationError(QwenError, ValueError):
    """A setting of the model object or of a call is wrong."""


class UnknownParameterError(ConfigurationError, core.ModelInvalidRequestError):
    """A parameter that does not exist."""


class InvalidParameterError(ConfigurationError, core.ModelInvalidRequestError):
    """A parameter value out of its range, or values that contradict each other."""


class CapabilityError(ConfigurationError, TypeError):
    """A chat model that lacks what is asked of it, such as exact counts or grammars."""


class PersonaError(ConfigurationError):
    """A persona's definition, its file, or the variables given to it are wrong."""


class MissingDependencyError(QwenError, ImportError):
    """A feature needs an extra that is not installed."""


class CheckpointError(QwenError):
    """The weights or the files beside them cannot be used."""


class ModelNotFoundError(CheckpointError, core.ModelNotFoundError):
    """No local folder, alias or reachable hub repository has this name."""


class IncompleteCheckpointError(CheckpointError):
    """A checkpoint folder lacks files or holds damaged ones."""


class UnsafeWeightsError(CheckpointError):
    """The folder holds pickled weights only; loading them could run code."""


class UnsupportedModelError(CheckpointError):
    """The checkpoint is not a causal language model of the Qwen2 family."""


class ChecksumError(CheckpointError):
    """A downloaded file is not the official one."""


class UnsafeCacheError(CheckpointError):
    """A cache folder that other users can write to: they could plant weights."""


class PrecisionError(CheckpointError):
    """The asked precision cannot be had on this device or with what is installed."""


class RequestError(QwenError, core.ModelInvalidRequestError, ValueError):
    """A call that cannot be answered as it is."""


class InvalidMessagesError(RequestError):
    """An empty conversation, or one that no chat can have."""


class UnsupportedContentError(RequestError):
    """Content other than text."""


class InvalidSchemaError(RequestError):
    """A tool or output schema that the grammar compiler refuses."""


class ContextOverflowError(RequestError, core.ContextOverflowError):
    """The prompt plus the reserved answer is longer than the context window.

    Attributes:
        prompt_tokens: Tokens of the prompt, exact unless the message says "at least".
        reserved_tokens: Tokens kept free for the answer.
        context_window: Tokens the model can hold.
    """

    _keywords = ("prompt_tokens", "reserved_tokens", "context_window")

    def __init__(self, message: str, *, prompt_tokens: int, reserved_tokens: int, context_window: int):
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.reserved_tokens = reserved_tokens
        self.context_window = context_window


class EngineError(QwenError):
    """The engine could not finish a request."""


class EngineClosedError(EngineError):
    """The engine, or the model object that owns it, has been closed."""


class OutOfMemoryError(EngineError, MemoryError):
    """Weights or KV memory do not fit."""


class GenerationTimeoutError(EngineError, core.ModelTimeoutError, TimeoutError):
    """The call's `timeout` passed before the answer was complete."""


class ServerError(EngineError, core.ModelAPIError):
    """A model server failed."""


class ServerUnreachableError(ServerError, core.ModelConnectionError, ConnectionError):
    """No connection to the server: refused, no such name, or TLS failed."""


class ServerAccessError(ServerError, core.ModelAuthenticationError):
    """The server refuses the key, or wants one."""


class ServerBusyError(ServerError, core.ModelRateLimitError):
    """The server has too much to do, also after all retries."""


class ServerTimeoutError(ServerError, core.ModelTimeoutError, TimeoutError):
    """The server took the request and did not begin to answer in time."""


class ServerCapabilityError(ServerError):
    """The server lacks what this package needs: another program or model, or a flag that it has to be started with."""


class AnswerLostError(ServerError):
    """The server died, stalled or wrote nonsense in the middle of an answer.

    Attributes:
        text: The answer so far, as the model wrote it.
        token_ids: Its tokens.
    """

    _keywords = ("text", "token_ids")

    def __init__(self, message: str, *, text: str, token_ids: tuple[int, ...]):
        super().__init__(message)
        self.text = text
        self.token_ids = token_ids


class OutputTruncatedError(QwenError, core.OutputParserException):
    """Constrained output was cut by `max_tokens` before it was complete."""


class OutputFormatError(QwenError, core.OutputParserException):
    """An answer does not keep to the form that was promised, also after a second try."""


class PolicyError(ConfigurationError):
    """A safety policy that is not valid, or that needs something it was not given."""


class BlockedInputError(RequestError):
    """An input that the safety policy blocks.

    Attributes:
        rule: The id of the rule.
    """

    _keywords = ("rule",)

    def __init__(self, message: str, *, rule: str):
        super().__init__(message)
        self.rule = rule
