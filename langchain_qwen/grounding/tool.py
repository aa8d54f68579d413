"""A retriever as a tool for agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from langchain_qwen.grounding.indexing import NEAREST, Source, estimated_tokens
from langchain_qwen.grounding.passages import Passage, cut_down, documents_of, read_passages, without_duplicates

_MOST_TOKENS = 4_000  # roughly; of longer documents the model gets the chunks nearest to its query


class _Query(BaseModel):
    query: str = Field(description="What to look for, in a few words.")


def retriever_tool(
    retriever: Runnable[str, list[Document]] | Sequence[Document | str],
    *,
    name: str = "search_documents",
    description: str = "Search the user's documents. Use it for every question about facts.",
    date_key: str = "date",
) -> BaseTool:
    """A tool that finds passages.

    The model gets them cleaned (no invisible characters, no orders to the model), numbered and dated. The documents
    themselves are the tool message's artifact, from which `GroundingMiddleware` grounds the final answer.

    Args:
        retriever: Any LangChain retriever, documents, or plain texts. Of the latter two an index is made, as
            `GroundedAnswerer` does.
        name: The tool's name.
        description: What the model is told of it.
        date_key: Where a document's metadata has its date.

    Raises:
        InvalidParameterError: `retriever` is none of these.
    """
    searched = Source(retriever, NEAREST, None, estimated_tokens).retriever

    def search(query: str) -> tuple[str, list[Document]]:
        return _shown(query, searched.invoke(query), date_key)

    async def asearch(query: str) -> tuple[str, list[Document]]:
        return _shown(query, await searched.ainvoke(query), date_key)

    return StructuredTool.from_function(
        search,
        coroutine=asearch,
        name=name,
        description=description,
        args_schema=_Query,
        response_format="content_and_artifact",
    )


def _shown(query: str, found: Any, date_key: str) -> tuple[str, list[Document]]:
    documents, _ = cut_down(documents_of(found), query, most_tokens=_MOST_TOKENS, count=lambda text: len(text) // 3)
    passages, _ = without_duplicates(read_passages(documents, date_key=date_key))
    if not passages:
        return "No passage was found.", []
    text = "\n\n".join(f"Passage {number}: {one.heading}{one.text}" for number, one in enumerate(passages, 1))
    return text, [_with_id(passage) for passage in passages]


def _with_id(passage: Passage) -> Document:
    return passage.document.model_copy(update={"id": passage.document_id})
