"""ChatQwen: the one file that knows both LangChain and the engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import model_validator
from typing_extensions import Self

from langchain_qwen import structured_output
from langchain_qwen._version import __version__
from langchain_qwen.base import BaseChatQwen
from langchain_qwen.generating import arguments, running
from langchain_qwen.output import content_blocks
from langchain_qwen.output.answer import PROVIDER
from langchain_qwen.output.plan import plan_output
from langchain_qwen.parameters import GenerationParameters
from langchain_qwen.profile import profile_of
from langchain_qwen.reading import Watch, events_only
from langchain_qwen.results import as_result
from langchain_qwen.together import adrain, drain

_NOT_SHOWN = ("metadata", "profile", "callbacks", "api_key")

content_blocks.register()


class ChatQwen(BaseChatQwen):
    """Qwen2.5 on this machine as a LangChain chat model.

    Set up, with no server and no key; `coder-1.5b` is downloaded at the first use (1.1 GB):

    ```python
    from langchain_qwen import ChatQwen

    model = ChatQwen(model="coder-1.5b", temperature=0)
    ```

    Key arguments: `model` (an alias, a folder, a GGUF file or a hub id), `precision` and `device` ("auto" for both),
    `temperature`, `max_tokens`, `seed`, `stop`, `timeout`.

    Invoke, stream, run several at the same time, or await:

    ```python
    model.invoke("Name the capital of Norway. One word.").text  # "Oslo"
    for chunk in model.stream("Count from one to five, digits only."):
        print(chunk.text, end="")  # 12345
    model.batch(["Capital of Peru? One word.", "Capital of Japan? One word."])  # "Lima", "Tokyo"


    async def translated() -> str:
        return (await model.ainvoke("Translate to French: good morning. Only the translation.")).text  # "Bonjour."
    ```

    Tools, and answers of a class:

    ```python
    from langchain_core.tools import tool
    from pydantic import BaseModel


    @tool
    def get_weather(city: str) -> str:
        '''Get the current weather in a city.'''
        return f"sunny in {city}"


    class Person(BaseModel):
        '''A person.'''

        name: str
        age: int


    model.bind_tools([get_weather]).invoke("What is the weather in Lisbon?").tool_calls
    # [{"name": "get_weather", "args": {"city": "Lisbon"}, "id": "call_...", "type": "tool_call"}]
    model.with_structured_output(Person).invoke("Ada is 36 years old.")  # Person(name="Ada", age=36)
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

    streaming: bool = False
    """Generate in streaming mode also under `invoke`, so that callbacks see every token."""

    @model_validator(mode="after")
    def add_langchain_qwen_version(self) -> Self:
        """Tell LangSmith which version made a trace."""
        self._add_version("langchain-qwen", __version__)
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
            name
            for name, field in others.items()
            if given[name] != field.get_default(call_default_factory=True, validated_data={})
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
        asked = arguments.read(self, stop, kwargs)
        parameters = asked.parameters
        params = LangSmithParams(ls_provider=PROVIDER, ls_model_type="chat", ls_model_name=asked.model or self.model)
        if parameters.temperature is not None:
            params["ls_temperature"] = parameters.temperature
        if parameters.max_tokens is not None:
            params["ls_max_tokens"] = parameters.max_tokens
        if parameters.stop:
            params["ls_stop"] = parameters.stop
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        return profile_of(self._files)

    # -- generating ---------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = events_only(run_manager)  # of tokens, core tells for streams only
        streams = [self._stream(messages, stop, told, **one) for one in arguments.of_each_answer(self, stop, kwargs)]
        return as_result(drain(streams))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = events_only(run_manager)
        streams = [self._astream(messages, stop, told, **one) for one in arguments.of_each_answer(self, stop, kwargs)]
        return as_result(await adrain(streams))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk, None, None]:
        steps = self._steps(messages, stop, kwargs)
        with contextlib.closing(running.chunks(steps, Watch(run_manager))) as chunks:
            for chunk in chunks:
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
        steps = self._steps(messages, stop, kwargs)
        async with contextlib.aclosing(running.achunks(steps, Watch(run_manager))) as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _steps(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]) -> running.Steps:
        """The passes of one answer; nothing is done yet."""
        asked = arguments.read(self, stop, kwargs)
        asked.check_one_answer()
        return running.steps(asked, messages, self._open_anew, self._backend)

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
                name, or OpenAI's dict around one: that tool. Forced calls always fit their schemas. Beside tools that
                run, a class is a form of the answer, which "any" fills in where no other tool is called.
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
        formatted = arguments.openai_tools(tools, strict=strict)
        # Raises now rather than at the first call.
        plan_output(tools=formatted, **bound, **arguments.plan_arguments(kwargs))
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
        before it is complete, `OutputTruncatedError` is raised (or returned as `parsing_error`); where a stop string
        does, `OutputFormatError`.

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
