"""What questions are answered from: a retriever as it is, or an index made of documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ConfigDict

from langchain_qwen.errors import InvalidParameterError
from langchain_qwen.grounding.retrieving import BM25Retriever, HybridRetriever, split_documents
from langchain_qwen.grounding.steps import Across
from langchain_qwen.personas.detection import detect
from langchain_qwen.personas.languages import language_of

NEAREST = 6  # chunks of documents or texts that are shown, where nobody says how many
_CHUNK_TOKENS = 200
_SAMPLE = 4000  # characters from which the documents' language is told
_SURE = 0.6


class Source:
    """Where documents come from.

    Args:
        given: A retriever, documents, or texts.
        k: How many documents are wanted.
        embeddings: For vectors beside BM25.
        count: Counts the tokens of a text.

    Attributes:
        retriever: From a text to documents, best first.

    Raises:
        InvalidParameterError: It is none of these.
    """

    def __init__(
        self,
        given: Runnable[str, list[Document]] | Sequence[Document | str],
        k: int,
        embeddings: Embeddings | None,
        count: Callable[[str], int],
    ):
        self.retriever: Runnable[str, list[Document]]
        self._language: str | None = None
        self._chosen = True  # by words: not all can be shown
        if isinstance(given, Runnable):
            if embeddings is not None:
                raise InvalidParameterError("embeddings are for documents or texts; a retriever has its own")
            self.retriever = given
            return
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise InvalidParameterError(
                f"give a retriever, or a list of documents or texts, not one {type(given).__name__}"
            )
        chunks = split_documents(given, chunk_tokens=_CHUNK_TOKENS, count=count)
        words = BM25Retriever(documents=chunks, k=k)
        if embeddings is None:
            self._chosen = len(chunks) > k
            self.retriever = words if self._chosen else _AllOfThem(words=words)
            sample = " ".join(chunk.page_content[: _SAMPLE // 10] for chunk in chunks[:10])
            self._language = detect(sample, at_least=_SURE).code
        else:
            store = InMemoryVectorStore(embeddings)
            # Chunks of one document share its id, and the store wants one for each.
            store.add_documents(chunks, ids=[str(number) for number in range(len(chunks))])
            self.retriever = HybridRetriever(retrievers=[words, _Vectors(store=store, chunks=chunks, k=k)], k=k)

    def across(self, question: str) -> Across | None:
        """Whether a question is in another language than the documents, so that words alone would find little."""
        asked = detect(question, at_least=_SURE).code if self._language else None
        if asked is None or self._language is None or asked == self._language:
            return None
        documents, other = language_of(self._language).english, language_of(asked).english
        hint = (
            f"The documents are in {documents} and the question is in {other}: words alone find little across "
            "languages. Give embeddings=, or translate_queries=True."
        )
        return Across(documents, hint if self._chosen else None)


class _AllOfThem(BaseRetriever):
    """Chunks so few that none has to be left out: those with words of the question first, then the others."""

    words: BM25Retriever

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        found = self.words.invoke(query, {"callbacks": run_manager.get_child()})
        return found + [chunk for chunk in self.words.documents if chunk not in found]


class _Vectors(BaseRetriever):
    """The chunks nearest to a question by their vectors."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    store: InMemoryVectorStore
    chunks: list[Document]
    k: int

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        found = self.store.similarity_search(query, self.k)
        return [self.chunks[int(document.id or 0)] for document in found]


def estimated_tokens(text: str) -> int:
    """About as many tokens as a text has, for models that do not count: one for three bytes."""
    return len(text.encode(errors="replace")) // 3 + 1
