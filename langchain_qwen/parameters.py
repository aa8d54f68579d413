"""The parameters of a generation: their names, ranges and defaults, the same for constructor, `bind` and call."""

from __future__ import annotations

import difflib
import functools
import secrets
import sys
import threading
from collections.abc import Iterable, Mapping, Set
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from langchain_qwen.engine import SamplingParams
from langchain_qwen.errors import InvalidParameterError, UnknownParameterError
from langchain_qwen.other_names import PARAMETERS

# The longest answer that Qwen2.5 is published for.
MAX_ANSWER_TOKENS = 8192


class GenerationParameters(BaseModel):
    """What shapes an answer. None stands for the checkpoint's own default (`generation_config.json`)."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Randomness; 0 is greedy: always the most likely token."""

    top_k: int | None = Field(default=None, ge=0)
    """Draw from the k most likely tokens only; 0 for all."""

    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the smallest set of tokens with this probability."""

    min_p: float | None = Field(default=None, ge=0, le=1)
    """Drop tokens less likely than this share of the most likely one."""

    repetition_penalty: float | None = Field(default=None, gt=0)
    """Hugging Face's penalty on every token seen in prompt or answer; 1 is off. Where the output has to follow a
    schema or tools are bound, the default is 1 instead of the checkpoint's, since it hinders exact copying."""

    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    """OpenAI's penalty on tokens that are in the answer already."""

    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """OpenAI's penalty on tokens by how often they are in the answer already."""

    logit_bias: dict[int, Annotated[float, Field(le=1e30)]] | None = None
    """Added to the logits of these token ids."""

    seed: int | None = None
    """The same seed, parameters and prompt give the same answer; None draws a new seed for each call."""

    max_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_tokens", "max_new_tokens", "max_completion_tokens")
    )
    """The longest answer; None allows 8,192 tokens or what is left of the window."""

    min_tokens: int | None = Field(default=None, ge=0, validation_alias=AliasChoices("min_tokens", "min_new_tokens"))
    """The model cannot end its answer before it has so many tokens. Strings of `stop`, and a schema's end, do so all
    the same."""

    ignore_eos: bool | None = None
    """The model cannot end its answer at all: it goes on until `max_tokens`."""

    n: int | None = Field(default=None, ge=1)
    """How many answers to give: `generate` returns all, `invoke` the first. Number i has the seed `seed + i`."""

    stop: list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    """Strings that end the answer; they are not part of it."""

    logprobs: bool | None = None
    """Report log probabilities in `response_metadata["logprobs"]`."""

    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """Also report this many alternatives for each token; implies `logprobs`."""

    timeout: float | None = Field(default=None, gt=0, validation_alias=AliasChoices("timeout", "request_timeout"))
    """Seconds after which a call fails with `GenerationTimeoutError`; counts waiting and loading too."""

    tool_hint: bool | str = True
    """What keeps agents from calling the same tool again and again. Where the last message is the result of a tool, a
    call whose result stands there already (same tool, same arguments, since the last human message) is withheld, and
    so is any further call of a tool that failed three times. Where the model says nothing else, it is asked once more,
    within the same call, with this text as a system message behind the prompt and without calls; True is the text that
    was found best. False turns this off. A tool that may say something else when called again has
    `extras={"repeatable": True}`. Usage counts both passes; the second one's prompt is longer by the hint."""

    decide_calls: bool = True
    """Whether short passes before the answer decide which tools are called, where tools are bound and the model may
    choose: none, one or several; after results, whether one that is due is left. They are asked behind examples
    (`langchain_qwen.output.deciding`), which small models need; without them, the model decides while it answers. Usage
    counts them: 1,700 to 2,000 tokens of prompt for each, which come from the prefix cache after the first time but for
    the question. They are left out where they do not fit into the window."""

    stream_usage: bool | None = None
    """Whether the last chunk of a stream says how many tokens were used; None is yes."""

    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables for the checkpoint's chat template. They are part of the prompt's form, not data: never fill
    them with what somebody else wrote."""

    continue_final_message: bool | None = None
    """The last message is an AI message, and the answer goes on where it ends."""

    @field_validator("stop", mode="before")
    @classmethod
    def _read_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("timeout")
    @classmethod
    def _read_timeout(cls, value: float | None) -> float | None:
        """Longer than the system can wait, 292 years or infinity, is for ever."""
        return None if value is not None and value > threading.TIMEOUT_MAX else value

    @model_validator(mode="after")
    def check_parameters_agree(self) -> Self:
        """Refuse values that contradict each other."""
        if self.logprobs is False and self.top_logprobs is not None:
            msg = f"top_logprobs={self.top_logprobs} contradicts logprobs=False; set logprobs=True or leave one out"
            raise ValueError(msg)
        if self.stop is not None and "" in self.stop:
            msg = "stop holds an empty string, which would end every answer before it begins; remove it"
            raise ValueError(msg)
        if self.max_tokens is not None and (self.min_tokens or 0) > self.max_tokens:
            msg = (
                f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}; lower it, or raise max_tokens"
            )
            raise ValueError(msg)
        return self

    def sampling(self, checkpoint_defaults: Mapping[str, Any], *, exact_copying: bool) -> SamplingParams:
        """Fill in the checkpoint's defaults.

        Args:
            checkpoint_defaults: Its `generation_config.json`.
            exact_copying: Leave the repetition penalty off unless it was asked for.
        """
        defaults = dict(checkpoint_defaults)
        if not defaults.get("do_sample", False):
            defaults["temperature"] = 0.0
        if exact_copying:
            defaults.pop("repetition_penalty", None)

        def pick(name: str, otherwise: float) -> Any:
            mine = getattr(self, name)
            return next(v for v in (mine, defaults.get(name), otherwise) if v is not None)

        return SamplingParams(
            temperature=pick("temperature", 1.0),
            top_k=pick("top_k", 0),
            top_p=pick("top_p", 1.0),
            min_p=pick("min_p", 0.0),
            repetition_penalty=pick("repetition_penalty", 1.0),
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=self.logit_bias or {},
            min_tokens=sys.maxsize if self.ignore_eos else self.min_tokens or 0,
            seed=secrets.randbits(63) if self.seed is None else self.seed,
        )


def merged(base: GenerationParameters, overrides: Mapping[str, Any]) -> GenerationParameters:
    """`base` with the parameters of one call on top, checked like the constructor's.

    Raises:
        UnknownParameterError: For a name that does not exist.
        InvalidParameterError: For a value out of range.
    """
    known = GenerationParameters.model_fields
    check_names(overrides, accepted_names(GenerationParameters))
    values = {name: getattr(base, name) for name in known}
    by_alias = _names_by_alias()
    values.update({by_alias.get(name, name): value for name, value in overrides.items()})
    with readable_errors():
        return GenerationParameters(**values)


def with_model_kwargs(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of `model_kwargs`, as many LangChain models have it, put beside the others.

    Raises:
        InvalidParameterError: For a parameter that stands in both with different values.
    """
    flat = dict(given)
    further = flat.pop("model_kwargs", None) or {}
    if not isinstance(further, Mapping):
        raise InvalidParameterError(f"model_kwargs={further!r} is no dict of parameters")
    for name, value in further.items():
        if flat.setdefault(name, value) != value:
            raise InvalidParameterError(
                f"{name}={flat[name]!r} contradicts model_kwargs, which say {value!r}; drop one"
            )
    return flat


@functools.cache
def _names_by_alias() -> dict[str, str]:
    fields = GenerationParameters.model_fields
    return {alias: name for name in fields for alias in _aliases(GenerationParameters, name)}


@functools.cache
def accepted_names(model: type[BaseModel]) -> frozenset[str]:
    """All field names and aliases."""
    return frozenset(alias for name in model.model_fields for alias in (name, *_aliases(model, name)))


def check_names(given: Iterable[str], accepted: Set[str]) -> None:
    """Raise `UnknownParameterError` for the first name that does not exist, with the nearest one that does."""
    for name in given:
        if name not in accepted:
            near = difflib.get_close_matches(name, accepted, n=1, cutoff=0.5)
            otherwise = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(accepted))}"
            hint = PARAMETERS.get(name, otherwise)
            raise UnknownParameterError(f"there is no parameter {name!r}; {hint}")


class readable_errors:  # noqa: N801  a context manager that reads like a function
    """Turns pydantic's validation errors into `InvalidParameterError`, a line for each parameter."""

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate, or let pass."""
        if isinstance(error, ValidationError):
            lines = [_describe(dict(detail)) for detail in error.errors(include_url=False)]
            raise InvalidParameterError("; ".join(lines)) from error


def _describe(detail: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{place}={detail['input']!r}: {message}" if place else message


def _aliases(model: type[BaseModel], name: str) -> list[str]:
    field = model.model_fields[name]
    choices = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else [field.alias]
    return [choice for choice in choices if isinstance(choice, str)]
