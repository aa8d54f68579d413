"""What models of this package can do beyond LangChain's chat models, however they are wrapped.

`ChatQwen` can, and every wrapper of ours forwards it: `as_local` is how a model says so. Whatever needs it asks
`local_model`, which looks through `bind`, `with_config`, `with_retry`, `configurable_fields` and `with_fallbacks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import (
    DynamicRunnable,
    RunnableConfigurableAlternatives,
    RunnableConfigurableFields,
)

from langchain_qwen.errors import CapabilityError
from langchain_qwen.prompting import Prompter


class LocalModel(Protocol):
    """A chat model on this machine: its prompts can be counted exactly, and its answers held to a grammar."""

    max_tokens: int | None

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    @property
    def prompter(self) -> Prompter:
        """What renders, encodes and counts the prompts, with all that the model adds to them."""
        ...

    def as_local(self, arguments: Mapping[str, Any] | None = None) -> LocalModel | None:
        """This model as it is when called with these arguments (`model`, `max_tokens`); None where it is not local."""
        ...

    def load(self) -> None:
        """Load the weights now rather than at the first call."""
        ...

    def warm(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Compute what prompts begin with; see `ChatQwen.warm`."""
        ...

    def close(self) -> None:
        """Release the weights."""
        ...


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A model, and the arguments that every call brings it."""

    model: Any
    arguments: dict[str, Any] = field(default_factory=dict)


def unwrap(runnable: Any, config: RunnableConfig | None = None) -> list[Unwrapped]:
    """The models within a runnable: one, or with fallbacks each of them.

    Args:
        runnable: A chat model, bare or wrapped by LangChain; anything else is given back as it is.
        config: Of the call. Without one, `configurable_alternatives` stand for each of them, and fields for their
            defaults.
    """
    arguments: dict[str, Any] = {}
    while True:
        if isinstance(runnable, RunnableBindingBase):
            arguments = {**runnable.kwargs, **arguments}
            runnable = runnable.bound
        elif isinstance(runnable, RunnableConfigurableAlternatives) and config is None:
            choices = [runnable.default, *runnable.alternatives.values()]
            return _each([choice() if not isinstance(choice, Runnable) else choice for choice in choices], arguments)
        elif isinstance(runnable, DynamicRunnable):
            runnable, config = runnable.prepare(config)
        elif isinstance(runnable, RunnableWithFallbacks):
            return _each(list(runnable.runnables), arguments, config)
        else:
            return [Unwrapped(runnable, arguments)]


def _each(runnables: list[Any], arguments: dict[str, Any], config: RunnableConfig | None = None) -> list[Unwrapped]:
    return [
        Unwrapped(found.model, {**found.arguments, **arguments})
        for runnable in runnables
        for found in unwrap(runnable, config)
    ]


def is_chat_model(runnable: Any) -> bool:
    """Whether it is a chat model, bare or wrapped."""
    return isinstance(runnable, Runnable) and all(isinstance(one.model, BaseChatModel) for one in unwrap(runnable))


def bound_arguments(runnable: Any, config: RunnableConfig | None = None) -> dict[str, Any]:
    """The arguments bound to a model; with fallbacks those of the first one, which is asked first."""
    return unwrap(runnable, config)[0].arguments


def local_model(
    runnable: Any, config: RunnableConfig | None = None, arguments: Mapping[str, Any] | None = None
) -> LocalModel | None:
    """The model of this machine within a runnable; None where one of its models is not of this machine.

    With fallbacks it is the one with the smallest window, since each of them may have to answer.

    Args:
        runnable: A chat model, bare or wrapped.
        config: Of the call.
        arguments: Of the call, beside those that are bound.
    """
    locals_ = [_as_local(one, arguments or {}) for one in unwrap(runnable, config)]
    found = [local for local in locals_ if local is not None]
    if len(found) < len(locals_):
        return None
    return found[0] if len(found) == 1 else min(found, key=lambda local: local.context_window)


def _as_local(one: Unwrapped, arguments: Mapping[str, Any]) -> LocalModel | None:
    ask = getattr(type(one.model), "as_local", None)
    return ask(one.model, {**one.arguments, **arguments}) if ask else None


def require_local(runnable: Any, needed_by: str) -> LocalModel:
    """As `local_model`, for what cannot do without.

    Raises:
        CapabilityError: It is another chat model, or one that a call's config may replace.
    """
    inner = runnable
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    if isinstance(inner, RunnableConfigurableFields) and {"model", "model_name", "revision"} & inner.fields.keys():
        raise CapabilityError(
            f"{needed_by} counts tokens for one checkpoint, and the config of a call may replace this model's; give it "
            "the model without the configurable field `model`"
        )
    local = local_model(runnable)
    if local is None:
        kinds = ", ".join(sorted({type(one.model).__name__ for one in unwrap(runnable)}))
        raise CapabilityError(
            f"{needed_by} needs a model that counts its prompts exactly and follows grammars: a ChatQwen, or one that "
            f"is guarded or bound, not {kinds}"
        )
    return local
