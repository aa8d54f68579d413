"""What ChatQwen is before it generates: which model, where it runs, what its texts count, how long it lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from langchain_core.load import dumpd
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables.utils import AnyConfigurableField
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator
from typing_extensions import Self

from langchain_qwen.backends import AtServer, Backend, InVllm, OnThisMachine, check_place
from langchain_qwen.checkpoints.devices import require_torch
from langchain_qwen.configuring import ConfigurableModel
from langchain_qwen.engine.sharing import Leases
from langchain_qwen.generating.arguments import openai_tools, plan_arguments
from langchain_qwen.opening import Opener, OpenModel, Source
from langchain_qwen.output.plan import plan_output, shown
from langchain_qwen.parameters import (
    GenerationParameters,
    accepted_names,
    check_names,
    readable_errors,
    with_model_kwargs,
)
from langchain_qwen.prompting import Prompter
from langchain_qwen.prompting.roles import to_roles
from langchain_qwen.structured_output import as_response_format
from langchain_qwen.together import Together

DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"


class BaseChatQwen(GenerationParameters, Together):
    """A model with its files, its counts and its life; see `ChatQwen`."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", arbitrary_types_allowed=True)

    model: str = Field(default=DEFAULT_MODEL, alias="model_name")
    """A hub id, a local folder, a GGUF file (of the hub: `Qwen/Qwen2.5-1.5B-Instruct-GGUF:q4_k_m`), or an alias that
    `langchain-qwen pull` knows (`coder-1.5b`, `coder-0.5b`); with `base_url` the server's name for the model, or for an
    adapter (LoRA) of it."""

    base_url: str | None = None
    """The API of a server, as "http://host:8000/v1": answers come from there, and no weights are loaded here."""

    tokenizer: str | None = None
    """With `base_url`: hub id, folder or alias of the model that the server runs, for its tokenizer, template and
    defaults; None is `model`. Its weights are not needed."""

    revision: str | None = None
    """Branch, tag or commit of a hub id."""

    cache_dir: str | None = None
    """Where downloads are kept; None is the usual place of huggingface_hub, for aliases that of this package."""

    local_files_only: bool = False
    """Never download."""

    precision: Literal["auto", "fp32", "bf16", "fp16", "int8", "int4"] = "auto"
    """How the weights are held. Auto is bf16 on a GPU and int4 on a CPU."""

    device: str = "auto"
    """"cpu", "cuda", "cuda:1", "mps"; auto takes the first accelerator there is."""

    quantization_config: dict[str, Any] | None = None
    """A `transformers.BitsAndBytesConfig`, or its settings as a dict: quantises through bitsandbytes, and transformers
    runs the model, on a CPU too. `precision` stays "auto"."""

    kv_cache_bytes: int | None = Field(default=None, gt=0)
    """Memory for keys and values of all running and remembered tokens; None holds one full context window (with vLLM
    what is left of nine tenths of the GPU)."""

    engine: Literal["local", "vllm"] = "local"
    """What generates in this process: this package's own engine, or vLLM's, which is installed by the extra `vllm`,
    takes a minute to start, and is for GPUs and many callers."""

    vllm_kwargs: dict[str, Any] | None = None
    """With `engine="vllm"`: further arguments of vLLM's `AsyncEngineArgs`, as `tensor_parallel_size`."""

    api_key: SecretStr | None = Field(default=None, exclude=True)
    """The server's key; a model on this machine needs none. Kept out of logs, traces and what is saved."""

    max_retries: int | None = Field(default=None, ge=0)
    """How often a request to a server is sent again where nothing of its answer has come; None is twice. Nothing on
    this machine fails by chance."""

    _leases: Leases = PrivateAttr(default_factory=Leases)
    _opener: Opener = PrivateAttr(default_factory=Opener)

    def __init__(self, **kwargs: Any) -> None:
        kwargs = with_model_kwargs(kwargs)
        check_names(kwargs, accepted_names(type(self)))
        with readable_errors():
            super().__init__(**kwargs)

    @field_validator("quantization_config", mode="before")
    @classmethod
    def _read_quantization_config(cls, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        require_torch("quantization_config")
        from langchain_qwen.engine.runners.torch.load import bitsandbytes_settings  # takes seconds to import

        return bitsandbytes_settings(value)

    @model_validator(mode="after")
    def check_server(self) -> Self:
        """Refuse settings that belong to another place than the one where answers are generated."""
        check_place(self.base_url, {name: getattr(self, name) for name in self.model_fields_set})
        return self

    # -- files and engine ---------------------------------------------------------------------------------------

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together; read from the checkpoint, or told by the server."""
        return self._backend.window(self._open().checkpoint)

    @property
    def prompter(self) -> Prompter:
        """What renders, encodes and counts the prompts of this model."""
        return self._open().prompter.with_form(self.chat_template_kwargs)

    def as_local(self, arguments: Mapping[str, Any] | None = None) -> Self:
        """This model as it is when called with these arguments; see `langchain_qwen.capabilities`."""
        changes = {name: arguments[name] for name in ("model", "max_tokens") if arguments and arguments.get(name)}
        if "model" in changes and self.base_url is not None:
            changes["tokenizer"] = self._files
        return self.model_copy(update=changes) if changes else self

    @property
    def _files(self) -> str:
        """What names the files on this machine."""
        return self.model if self.base_url is None else self.tokenizer or self.model

    def _open(self, model: str | None = None, *, fresh: bool = False) -> OpenModel:
        """The files of `model`, or of this object's own model; see `Opener`."""
        name, server = model or self.model, self.base_url is not None
        files, revision = (self._files, self.revision) if server or name == self.model else (name, None)
        source = Source(files, revision, self.cache_dir, self.local_files_only, name if server else None)
        return self._opener.open(source, fresh=fresh)

    def _open_anew(self, model: str | None = None) -> OpenModel:
        """The files as they are now, for an answer."""
        return self._open(model, fresh=True)

    @property
    def _backend(self) -> Backend:
        """Where answers are generated."""
        if self.base_url is not None:
            return AtServer(self._leases, self.base_url, self.api_key, self.max_retries)
        if self.engine == "vllm":
            return InVllm(self._leases, self.precision, self.kv_cache_bytes, self.vllm_kwargs or {})
        return OnThisMachine(self._leases, self.precision, self.device, self.kv_cache_bytes, self.quantization_config)

    def configurable_fields(self, **kwargs: AnyConfigurableField) -> ConfigurableModel:
        """As in every Runnable; the models for single calls share the weights of this one."""
        named: Any = super().configurable_fields(**kwargs)
        return ConfigurableModel(default=self, fields=named.fields)

    @property
    def _serialized(self) -> dict[str, Any]:
        """Names this model in caches and traces. LangChain keeps it, also where settings change, as in copies."""
        serialized: dict[str, Any] = dumpd(self)
        return serialized

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """What caches know a call by: classes and functions by their schemas too, since names come to mean others."""
        form = kwargs.get("response_format")
        parsed_into = {"parsed_into": form} if isinstance(form, type) else {}
        return super()._get_llm_string(stop, **{**kwargs, **plan_arguments(kwargs), **parsed_into})

    # -- counting -----------------------------------------------------------------------------------------------

    def get_token_ids(self, text: str) -> list[int]:
        """Ids of a text as data: what looks like a control token is none."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._open().tokenizer.encode(text)

    def get_num_tokens(self, text: str) -> int:
        """Tokens of a text as data."""
        return len(self.get_token_ids(text))

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        *,
        response_format: dict[str, Any] | type | None = None,
    ) -> int:
        """Tokens of the prompt for these messages, tools and form of the answer, exactly as it is sent.

        Where a second pass follows (`tool_hint`), its prompt has the hint besides, about 40 tokens.
        """
        bound = openai_tools(tools)
        if response_format is None or not messages:
            return self.prompter.count(messages, shown(bound))
        plan = plan_output(tools=bound, response_format=as_response_format(response_format)).last
        return len(self.prompter.encode_roles(plan.after(to_roles(messages)), plan.tools, thinks=plan.thinks))

    # -- life ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the weights now rather than at the first call; of a server, ask whether it has the model."""
        self._backend.engine(self._open_anew().checkpoint)

    def warm(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Have ready what prompts begin with, so that their answers start sooner.

        It is computed once and kept in this package's cache folder, from where later processes read it. A server is
        asked for one token, twice: its own prefix cache keeps what it likes.

        Args:
            messages: What the prompts begin with; the user's message comes after.
            tools: The tools that will be bound.

        Returns:
            How many tokens are ready; those of the last, not quite full block of 16 are not. 0 where a server does not
            tell (`--enable-prompt-tokens-details`).
        """
        model, bound = self._open_anew(), shown(openai_tools(tools))
        one, other = (model.prompter.encode([*messages, HumanMessage(text)], bound) for text in ("a", "b"))
        common = next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        return self._backend.warm(model.checkpoint, one[:common])

    def close(self) -> None:
        """Release the weights; they are freed when no other model object uses them. Later calls raise."""
        self._leases.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
