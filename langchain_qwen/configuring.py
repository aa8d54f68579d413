"""A model whose settings the config of a call may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.configurable import RunnableConfigurableFields

from langchain_qwen import structured_output


class ConfigurableModel(RunnableConfigurableFields):  # type: ignore[type-arg]  # pydantic would want them of `default`
    """What `configurable_fields` makes of a model.

    LangChain makes a new model for each call, from all fields of the one that was given. Such a model has weights of
    its own to load, and does not stream, since `streaming` counts as set. Here it is a copy, which shares the weights.
    And LangChain binds tools to the model that was given, which no config reaches.
    """

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `load` finds the class."""
        return ["langchain_qwen", "configuring"]

    def _prepare(self, config: RunnableConfig | None = None) -> tuple[Any, RunnableConfig]:
        checked: Any
        checked, config = super()._prepare(config)
        if checked is self.default:
            return checked, config
        return self.default.model_copy(update={name: getattr(checked, name) for name in self.fields}), config

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """As the model's own."""
        bound: Any = self.default
        return self.bind(**bound.bind_tools(tools, **kwargs).kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """As the model's own."""
        itself: Any = self
        return structured_output.build(
            itself, schema, method=method, include_raw=include_raw, strict=strict, bound=kwargs
        )
