"""Retrieval without a service: BM25 in every script, and several retrievers as one."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import ContextThreadPoolExecutor, RunnableConfig
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding.texts import unicode
from langchain_qwen.grounding.words import words

with warnings.catch_warnings():  # its progress bars, which are not used here, complain in notebooks without widgets
    warnings.filterwarnings("ignore", message="IProgress not found")
    import bm25s

_SEPARATORS = ["\n\n", "\n", "。", "！", "？", ". ", "! ", "? ", "؟ ", "। ", "；", "; ", "，", ", ", " ", ""]
# Where a chunk of a longer document begins and ends in it, in the metadata.
START, END = "start_index", "end_index"


class BM25Retriever(BaseRetriever):
    """BM25 (bm25s, Lucene's variant) over words that are found in every script.

    Documents without a word of the question are never returned.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    documents: list[Document]
    k: int = Field(default=6, gt=0)
    """The most documents to return."""

    _index: bm25s.BM25 = PrivateAttr()
    _known: frozenset[str] = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002  pydantic's
        """Build the index."""
        tokens = [words(document.page_content) for document in self.documents]
        self._known = frozenset(word for found in tokens for word in found)
        self._index = bm25s.BM25(backend="numpy")
        if self._known:
            self._index.index(tokens, show_progress=False)

    @classmethod
    def from_texts(cls, texts: Iterable[str], **kwargs: Any) -> BM25Retriever:
        """Over plain texts, whose ids are their places in the list, from 1."""
        return cls(documents=as_documents(list(texts)), **kwargs)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,  # noqa: ARG002
    ) -> list[Document]:
        asked = [word for word in dict.fromkeys(words(query)) if word in self._known]
        if not asked:
            return []
        scores = self._index.get_scores(asked)
        best = np.argsort(-scores, kind="stable")[: self.k]
        return [self.documents[i] for i in best if scores[i] > 0]


class HybridRetriever(BaseRetriever):
    """Several retrievers as one by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009).

    Give it `BM25Retriever` and `vector_store.as_retriever()`, for instance.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    retrievers: list[BaseRetriever] = Field(min_length=1)
    k: int = Field(default=6, gt=0)
    """The most documents to return."""

    smoothing: int = Field(default=60, ge=0)
    """A document gets 1 / (smoothing + rank) from each retriever that found it."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        config = {"callbacks": run_manager.get_child()}
        with ContextThreadPoolExecutor(max_workers=len(self.retrievers)) as pool:
            found = list(pool.map(lambda retriever: retriever.invoke(query, config), self.retrievers))
        return reciprocal_rank(found, self.smoothing)[: self.k]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        found = await asyncio.gather(*(retriever.ainvoke(query, config) for retriever in self.retrievers))
        return reciprocal_rank(found, self.smoothing)[: self.k]


def reciprocal_rank(rankings: Sequence[Sequence[Document]], smoothing: int = 60) -> list[Document]:
    """Fuse rankings, best first; among equals the one found first."""
    scores: dict[tuple[str | None, str], float] = {}
    documents: dict[tuple[str | None, str], Document] = {}
    for ranking in rankings:
        for rank, document in enumerate(ranking, 1):
            key = (document.id, document.page_content)
            documents.setdefault(key, document)
            scores[key] = scores.get(key, 0.0) + 1 / (smoothing + rank)
    return [documents[key] for key in sorted(scores, key=lambda key: -scores[key])]


def as_documents(texts: Sequence[str | Document]) -> list[Document]:
    """Documents with ids: their own, else their place in the list, from 1."""
    documents = []
    for number, text in enumerate(texts, 1):
        document = Document(page_content=text) if isinstance(text, str) else text
        documents.append(document if document.id else document.model_copy(update={"id": str(number)}))
    return documents


def split_documents(
    documents: Sequence[str | Document], *, chunk_tokens: int, count: Callable[[str], int]
) -> list[Document]:
    """Cut documents into chunks of at most `chunk_tokens`, each knowing its place in its document.

    A chunk keeps its document's id and metadata; `start_index` and `end_index` in the metadata are its exact offsets.

    Args:
        documents: Documents or plain texts.
        chunk_tokens: The most tokens of a chunk.
        count: Counts the tokens of a text, such as `ChatQwen.get_num_tokens`.
    """
    if chunk_tokens < 1:
        raise InvalidParameterError(f"chunk_tokens={chunk_tokens}: a chunk needs at least one token")
    splitter = RecursiveCharacterTextSplitter(
        chunk_size=chunk_tokens,
        chunk_overlap=0,
        length_function=lambda text: count(unicode(text)),
        separators=_SEPARATORS,
        keep_separator="end",
    )
    chunks = []
    for document in as_documents(documents):
        text, end = document.page_content, 0
        for chunk in splitter.split_text(text):
            # Only white space is lost between chunks, so the next one is where its text comes next.
            start = text.index(chunk, end)
            end = start + len(chunk)
            place = {START: start, END: end}
            chunks.append(Document(id=document.id, page_content=chunk, metadata={**document.metadata, **place}))
    return chunks
