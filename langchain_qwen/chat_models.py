"""ChatQwen: the one file that knows both LangChain and the engine."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
)
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator
from typing_extensions import Self

from langchain_qwen import structured_output
from langchain_qwen._version import __version__
from langchain_qwen.backends import AtServer, Backend, InVllm, OnThisMachine, check_place
from langchain_qwen.bounds import answer_room, check_bias
from langchain_qwen.checkpoints import Checkpoint
from langchain_qwen.checkpoints.devices import require_torch
from langchain_qwen.engine import Constraint, Engine, Request
from langchain_qwen.engine.sharing import Leases
from langchain_qwen.errors import ContextOverflowError, InvalidParameterError
from langchain_qwen.opening import Opener, OpenModel, Source
from langchain_qwen.output import content_blocks, deciding
from langchain_qwen.output.answer import PROVIDER, Answer, Spent
from langchain_qwen.output.passes import after_results
from langchain_qwen.output.plan import PLAN_ARGUMENTS, OutputPlan, plan_output, shown
from langchain_qwen.parameters import (
    GenerationParameters,
    accepted_names,
    check_names,
    merged,
    readable_errors,
    with_model_kwargs,
)
from langchain_qwen.profile import profile_of
from langchain_qwen.prompting import Prompter, check_conversation
from langchain_qwen.prompting.roles import Role, to_roles
from langchain_qwen.reading import Watch, events_only
from langchain_qwen.results import Closing, as_result, combined_llm_outputs
from langchain_qwen.structured_output import as_response_format
from langchain_qwen.together import Together, adrain, drain, interruption

DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
_NOT_SHOWN = ("metadata", "profile", "callbacks", "api_key")

content_blocks.register()


@dataclass(frozen=True, slots=True)
class _Call:
    """Everything that one answer needs, checked before any weights are loaded."""

    model: OpenModel
    plan: OutputPlan
    parameters: GenerationParameters
    request: Request
    otherwise: _Call | None
    """What follows where this brings nothing; see `langchain_qwen.output.passes`. For a pass that decides, what is
    generated where there is no room for it."""
    then: Callable[[str], _Call] | None = None
    """What follows a pass that decides, by what it said."""

    def next(self, answer: Answer) -> _Call | None:
        """What has to be generated after this."""
        if not answer.wanting:
            return None
        return self.then(answer.decision) if self.then else self.otherwise


class ChatQwen(GenerationParameters, Together):
    """Qwen2.5 on this machine as a LangChain chat model.

    ```python
    from langchain_qwen import ChatQwen

    model = ChatQwen(model="coder-1.5b", temperature=0)
    model.invoke("Why is the sky blue?").text
    ```

    Every parameter of `GenerationParameters` can be given here, to `bind`, and to each call; so can `model`.
    Weights load at the first call and are shared by all objects with the same checkpoint, precision and device.
    Requests that run at the same time (`batch`, threads, tasks) share the steps of the engine.

    The model's files are found and checked at the first use, and again where `model`, `revision` or `cache_dir` change.
    When an answer begins and they have been saved anew since, they are read again, weights included; counting tokens
    goes by what was read last. A branch of a hub id (`revision`) stays at the commit where it was found first.

    With `base_url` the model runs at a server, vLLM alone or under Ray Serve, and everything else stays as it is:

    ```python
    ChatQwen(base_url="http://gpu-box:8000/v1", model="qwen", tokenizer="Qwen/Qwen2.5-7B-Instruct")
    ```

    With `engine="vllm"` vLLM runs it in this process, which is for GPUs.

    The promise that an answer depends on the request alone, to the bit, is that of this package's engine; with vLLM it
    ends: what else runs there, and what it has cached, may change an answer.

    Errors are those of `langchain_qwen.errors`; bad input raises before weights are loaded where that is possible.
    """

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

    streaming: bool = False
    """Generate in streaming mode also under `invoke`, so that callbacks see every token."""

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
    def add_langchain_qwen_version(self) -> Self:
        """Tell LangSmith which version made a trace."""
        self._add_version("langchain-qwen", __version__)
        return self

    @model_validator(mode="after")
    def check_server(self) -> Self:
        """Refuse settings that belong to another place than the one where answers are generated."""
        check_place(self.base_url, {name: getattr(self, name) for name in self.model_fields_set})
        return self

    # -- identity -----------------------------------------------------------------------------------------------

    @property
    def model_name(self) -> str:
        """`model`, under the name that most LangChain models have it."""
        return self.model

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What it is first, then what was set; not what LangChain writes into every model."""
        first = {name: getattr(self, name) for name in ("model", "precision", "device")}
        others = {name: field for name, field in type(self).model_fields.items() if name not in (*first, *_NOT_SHOWN)}
        given = {name: getattr(self, name) for name in others}
        was_set = (
            name for name, field in others.items() if given[name] != field.get_default(call_default_factory=True)
        )
        return [*first.items(), *((name, given[name]) for name in was_set)]

    @property
    def _llm_type(self) -> str:
        return "chat-qwen"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        places = ("model", "base_url", "tokenizer", "revision", "engine", "precision", "quantization_config", "device")
        return {name: getattr(self, name) for name in (*places, *GenerationParameters.model_fields)}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """`langchain_core.load.dumps` and `load` work."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `load` finds the class."""
        return ["langchain_qwen", "chat_models"]

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        parameters, _, model = self._read_call(stop, kwargs)
        params = LangSmithParams(ls_provider=PROVIDER, ls_model_type="chat", ls_model_name=model)
        if parameters.temperature is not None:
            params["ls_temperature"] = parameters.temperature
        if parameters.max_tokens is not None:
            params["ls_max_tokens"] = parameters.max_tokens
        if parameters.stop:
            params["ls_stop"] = parameters.stop
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        return profile_of(self._files)

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may have together; read from the checkpoint, or told by the server."""
        return self._backend.window(self._open().checkpoint)

    @property
    def prompter(self) -> Prompter:
        """What renders, encodes and counts the prompts of this model."""
        return self._open().prompter.with_form(self.chat_template_kwargs)

    def as_local(self, arguments: Mapping[str, Any] | None = None) -> ChatQwen:
        """This model as it is when called with these arguments; see `langchain_qwen.capabilities`."""
        changes = {name: arguments[name] for name in ("model", "max_tokens") if arguments and arguments.get(name)}
        if "model" in changes and self.base_url is not None:
            changes["tokenizer"] = self._files
        return self.model_copy(update=changes) if changes else self

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
        bound = _openai_tools(tools)
        if response_format is None or not messages:
            return self.prompter.count(messages, shown(bound))
        plan = plan_output(tools=bound, response_format=as_response_format(response_format)).last
        return len(self.prompter.encode_roles(_roles_of(to_roles(messages), plan), plan.tools))

    # -- generating ---------------------------------------------------------------------------------------------

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return combined_llm_outputs(llm_outputs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = events_only(run_manager)  # of tokens, core tells for streams only
        return as_result(drain([self._stream(messages, stop, told, **one) for one in self._answers(stop, kwargs)]))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = events_only(run_manager)
        streams = [self._astream(messages, stop, told, **one) for one in self._answers(stop, kwargs)]
        return as_result(await adrain(streams))

    def _answers(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The arguments of each of `n` answers."""
        parameters, *_ = self._read_call(stop, kwargs)
        alone = {**with_model_kwargs(kwargs), "n": 1, "stream_usage": True}
        if (n := parameters.n or 1) == 1:
            return [alone]
        seed = secrets.randbits(62) if parameters.seed is None else parameters.seed
        return [{**alone, "seed": seed + number} for number in range(n)]

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk, None, None]:
        closing = self._closing(stop, kwargs)
        with contextlib.closing(self._chunks(messages, stop, Watch(run_manager), **kwargs)) as chunks:
            for chunk in map(closing.close, chunks):
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        closing = self._closing(stop, kwargs)
        async with contextlib.aclosing(self._achunks(messages, stop, Watch(run_manager), **kwargs)) as chunks:
            async for chunk in chunks:
                closing.close(chunk)
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _closing(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> Closing:
        parameters, *_ = self._read_call(stop, kwargs)
        if (parameters.n or 1) > 1:
            raise InvalidParameterError(
                f"n={parameters.n} answers cannot be streamed as one; call `generate` without streaming, or leave n out"
            )
        return Closing(kwargs.get("response_format"), stream_usage=parameters.stream_usage is not False)

    def _chunks(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        watch: Watch,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk, None, None]:
        call: _Call | None = self._prepare(messages, stop, kwargs)
        spent = Spent()
        while call is not None:
            now, engine, request = self._engine(call)
            answer = self._answer(now, engine, spent)
            events = engine.stream(request)
            try:
                for event in events:
                    watch.see(event)
                    yield from answer.feed(event)
                    if answer.complete:
                        break
            finally:
                watch.close()
                events.close()
            call = now.next(answer)

    async def _achunks(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        watch: Watch,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        # Reading files, compiling grammars and loading weights must not block the event loop.
        call: _Call | None = await asyncio.to_thread(self._prepare, messages, stop, kwargs)
        spent = Spent()
        while call is not None:
            now, engine, request = await asyncio.to_thread(self._engine, call)
            answer = self._answer(now, engine, spent)
            events = engine.astream(request)
            try:
                async for event in events:
                    await watch.asee(event)
                    for chunk in answer.feed(event):
                        yield chunk
                    if answer.complete:
                        break
            finally:
                watch.close()
                await events.aclose()
            call = await asyncio.to_thread(now.next, answer)

    def _read_call(
        self, stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[GenerationParameters, dict[str, Any], str]:
        """Split a call's arguments into parameters, those of the output's form, and the model."""
        kwargs = with_model_kwargs(kwargs)
        # LangChain itself reads `stream`: whether `invoke` streams.
        overrides = {name: value for name, value in kwargs.items() if name not in (*PLAN_ARGUMENTS, "model", "stream")}
        parameters = merged(self, overrides)
        if stop:
            further = [stop] if isinstance(stop, str) else stop
            parameters = parameters.model_copy(update={"stop": [*(parameters.stop or []), *further]})
        plan = {name: kwargs[name] for name in PLAN_ARGUMENTS if name in kwargs}
        if plan.get("tools"):
            plan["tools"] = _openai_tools(plan["tools"])
        if "response_format" in plan:
            plan["response_format"] = as_response_format(plan["response_format"])
        return parameters, plan, kwargs.get("model") or self.model

    def _prepare(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]) -> _Call:
        """Check everything that can be checked without weights."""
        started = time.monotonic()
        parameters, plan_arguments, name = self._read_call(stop, kwargs)
        plan = after_results(plan_output(**plan_arguments), messages, parameters.tool_hint)
        roles = check_conversation(messages)
        model = self._open(name, fresh=True).with_form(parameters)
        checkpoint = model.checkpoint
        check_bias(parameters.logit_bias, checkpoint.vocab_size)
        # Says so now where reading megabytes would only tell how many too many they are.
        answer_room(model.prompter.least(messages), parameters.max_tokens, checkpoint.context_window, "at least ")
        deadline = None if parameters.timeout is None else started + parameters.timeout
        call = self._pass(model, plan, parameters, roles, deadline)
        decides = parameters.decide_calls and not parameters.continue_final_message and deciding.is_open(plan)
        return self._deciding(call, roles) if decides else call

    def _deciding(self, call: _Call, roles: list[Role]) -> _Call:
        """The pass that decides which calls are made; see `langchain_qwen.output.deciding`."""
        model, plan, deadline = call.model, call.plan, call.request.deadline
        checkpoint = model.checkpoint
        none = model.tokenizer.encode(deciding.NONE)[0]
        asked = OutputPlan(grammar=deciding.grammar(plan), calls=False, shown=False, decides=True)
        parameters = GenerationParameters(
            temperature=0.0,
            repetition_penalty=1.0,
            max_tokens=deciding.MAX_TOKENS,
            logit_bias={none: deciding.leaning(checkpoint.config["hidden_size"], roles)},
        )
        try:
            first = self._pass(model, asked, parameters, deciding.question(plan, roles), deadline)
        except ContextOverflowError:
            return call

        def then(text: str) -> _Call:
            return self._pass(model, deciding.decided(plan, text), call.parameters, roles, deadline)

        return replace(first, otherwise=call, then=then)

    def _pass(
        self,
        model: OpenModel,
        plan: OutputPlan,
        parameters: GenerationParameters,
        roles: list[Role],
        deadline: float | None,
    ) -> _Call:
        """One pass of a call, with the one that follows where it brings nothing."""
        checkpoint = model.checkpoint
        constraint = None if plan.grammar is None else Constraint(model.tokenizer.llguidance, plan.grammar)
        if constraint is not None:
            constraint.check()
        prompt_ids = model.prompter.encode_roles(_roles_of(roles, plan), plan.tools)
        following = plan.otherwise
        otherwise = self._pass(model, following, parameters, roles, deadline) if following else None
        request = Request(
            prompt_ids=tuple(prompt_ids),
            max_tokens=answer_room(len(prompt_ids), parameters.max_tokens, checkpoint.context_window),
            stop_ids=checkpoint.eos_token_ids | model.tokenizer.turn_starts,
            sampling=parameters.sampling(checkpoint.generation, exact_copying=bool(plan.tools or plan.grammar)),
            top_logprobs=parameters.top_logprobs if parameters.logprobs is not True else parameters.top_logprobs or 0,
            constraint=constraint,
            deadline=deadline,
            interrupted=interruption(),
        )
        return _Call(model, plan, parameters, request, otherwise)

    def _engine(self, call: _Call) -> tuple[_Call, Engine, Request]:
        """What is generated, the engine, and the request cut to what its KV memory holds where no length was asked for.

        What is still too long, the engine refuses.
        """
        engine = self._shared_engine(call.model.checkpoint, call.request.deadline)
        room = max(1, engine.info.context_window - len(call.request.prompt_ids))
        if call.then and call.otherwise and room < call.request.max_tokens:
            return self._engine(call.otherwise)
        if call.parameters.max_tokens is not None:
            return call, engine, call.request
        return call, engine, replace(call.request, max_tokens=min(call.request.max_tokens, room))

    def _shared_engine(self, checkpoint: Checkpoint, deadline: float | None = None) -> Engine:
        """The engine that all in this process with the same weights share, loaded if need be."""
        return self._backend.engine(checkpoint, deadline)

    @property
    def _backend(self) -> Backend:
        """Where answers are generated."""
        if self.base_url is not None:
            return AtServer(self._leases, self.base_url, self.api_key, self.max_retries)
        if self.engine == "vllm":
            return InVllm(self._leases, self.precision, self.kv_cache_bytes, self.vllm_kwargs or {})
        return OnThisMachine(self._leases, self.precision, self.device, self.kv_cache_bytes, self.quantization_config)

    @property
    def _files(self) -> str:
        """What names the files on this machine."""
        return self.model if self.base_url is None else self.tokenizer or self.model

    def _answer(self, call: _Call, engine: Engine, spent: Spent) -> Answer:
        return Answer(
            call.model.tokenizer.token_bytes,
            call.plan,
            stop=call.parameters.stop or (),
            with_logprobs=call.request.top_logprobs is not None,
            prompt_tokens=len(call.request.prompt_ids),
            metadata=self._backend.identity(call.model.checkpoint, engine),
            spent=spent,
        )

    def _open(self, model: str | None = None, *, fresh: bool = False) -> OpenModel:
        """The files of `model`, or of this object's own model; see `Opener`."""
        name, server = model or self.model, self.base_url is not None
        files, revision = (self._files, self.revision) if server or name == self.model else (name, None)
        source = Source(files, revision, self.cache_dir, self.local_files_only, name if server else None)
        return self._opener.open(source, fresh=fresh)

    # -- tools and structured output ----------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Show tools to the model.

        Args:
            tools: Functions, pydantic classes, TypedDicts, LangChain tools or OpenAI tool dicts.
            tool_choice: None or "auto": the model decides. "none": no call. "any", "required", True: some call. A
                name, or OpenAI's dict around one: that tool. Forced calls always fit their schemas.
            strict: Calls fit their schemas also where the model decides to call.
            parallel_tool_calls: Whether one answer may hold several calls.
            **kwargs: Further arguments to bind, `response_format` among them.

        Raises:
            InvalidParameterError: For a `tool_choice` that names no bound tool.
            InvalidSchemaError: For a tool whose schema cannot be compiled, where it has to be.
        """
        options: dict[str, Any] = {
            "tool_choice": tool_choice,
            "strict": strict,
            "parallel_tool_calls": parallel_tool_calls,
        }
        bound = {name: value for name, value in options.items() if value is not None}
        formatted = _openai_tools(tools, strict=strict)
        plan = {name: value for name, value in kwargs.items() if name in PLAN_ARGUMENTS}
        if "response_format" in plan:
            plan["response_format"] = as_response_format(plan["response_format"])
        plan_output(tools=formatted, **bound, **plan)  # raises now rather than at the first call
        return self.bind(tools=formatted, **bound, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answer with an object of a schema.

        The answer is generated under a grammar, so it always parses and fits the schema. Where `max_tokens` ends it
        before it is complete, `OutputTruncatedError` is raised (or returned as `parsing_error`).

        Args:
            schema: A pydantic class (v1 or v2), a TypedDict, a JSON Schema or an OpenAI tool dict.
            method: "json_schema" constrains the answer itself; "function_calling" forces a call of one tool;
                "json_mode" allows any JSON object and leaves it to the prompt to say which.
            include_raw: Return `{"raw": message, "parsed": object, "parsing_error": error}` and raise no parsing error.
            strict: Accepted for compatibility: the output fits the schema in any case (json_mode excepted).
            **kwargs: Further arguments to bind.
        """
        return structured_output.build(
            self, schema, method=method, include_raw=include_raw, strict=strict, bound=kwargs
        )

    # -- life ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load the weights now rather than at the first call; of a server, ask whether it has the model."""
        self._shared_engine(self._open(fresh=True).checkpoint)

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
        model, bound = self._open(fresh=True), shown(_openai_tools(tools))
        one, other = (model.prompter.encode([*messages, HumanMessage(text)], bound) for text in ("a", "b"))
        shared = next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        return self._backend.warm(model.checkpoint, one[:shared])

    def close(self) -> None:
        """Release the weights; they are freed when no other model object uses them. Later calls raise."""
        self._leases.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _roles_of(roles: list[Role], plan: OutputPlan) -> list[Role]:
    """A conversation with what the plan says behind it."""
    return roles if plan.instruction is None else [*roles, {"role": "system", "content": plan.instruction}]


def _openai_tools(tools: Sequence[Any] | None, *, strict: bool | None = None) -> list[dict[str, Any]]:
    return [_openai_tool(tool, strict) for tool in tools or ()]


def _openai_tool(tool: Any, strict: bool | None) -> dict[str, Any]:
    """LangChain's form leaves out `extras`, which say whether a tool is `repeatable`."""
    extras = tool.get("extras") if isinstance(tool, Mapping) else getattr(tool, "extras", None)
    return {**convert_to_openai_tool(tool, strict=strict), **({"extras": extras} if extras else {})}
