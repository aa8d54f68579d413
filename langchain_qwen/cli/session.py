"""A conversation with a model: what the chat's loop and its commands work on."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import Runnable

from langchain_qwen.cli import model as models
from langchain_qwen.cli.conversation import Conversation
from langchain_qwen.cli.lines import interactive
from langchain_qwen.cli.terminal import answering, say, write
from langchain_qwen.errors import ContextOverflowError, QwenError

if TYPE_CHECKING:
    from langchain_qwen.personas import Persona


class Session:
    """Who answers, what has been said, and how an answer is shown and remembered."""

    def __init__(self, options: models.ModelOptions, conversation: Conversation, persona: Persona | None = None):
        self.options = options
        self.model = models.make_model(options, load=True)
        self.persona = persona
        self.conversation = conversation
        self.last_answer: AIMessage | None = None

    def change(self, **options: Any) -> None:
        """Go on with another model, or other parameters; where they cannot be had, all stays as it is."""
        changed = replace(self.options, **options)
        former, self.model = self.model, models.make_model(changed, load=True)
        self.options = changed
        former.close()

    @property
    def _speaker(self) -> Runnable[LanguageModelInput, AIMessage]:
        """The model, as the persona where there is one."""
        return self.model if self.persona is None else self.persona.with_model(self.model)

    def answer(self, text: str) -> None:
        """Stream the answer to a message and remember both."""
        messages = [*self.conversation.messages, HumanMessage(text)]
        self.conversation.unanswered = text
        chunks: list[AIMessageChunk] = []
        try:
            with (
                closing(models.stream_chunks(self._speaker, messages, "Thinking")) as stream,
                answering() as writer,
            ):
                for chunk in stream:
                    chunks.append(chunk)
                    writer.write(chunk.text)
        except KeyboardInterrupt:
            kept = self._keep(text, chunks)
            say("(stopped)" if kept else "(stopped before the answer; /retry asks again)")
        except ContextOverflowError as error:
            say(
                f"The conversation no longer fits: with your message it has {error.prompt_tokens:,} tokens, "
                f"{error.reserved_tokens:,} are reserved for the answer, and the window holds "
                f"{error.context_window:,}. /reset starts over (/save FILE keeps this one first); then /retry sends "
                "your message again.",
                style="yellow",
            )
        except QwenError as error:
            self._keep(text, chunks)
            say(str(error), style="red")
        else:
            if not self._keep(text, chunks):
                say("(an empty answer; /retry asks again)")
        if interactive():
            write("\n")

    def _keep(self, text: str, chunks: list[AIMessageChunk]) -> bool:
        """Remember what has come; whether there was anything."""
        answer = models.join(chunks)
        if not answer.text:
            return False
        self.conversation.add(text, answer)
        self.last_answer = answer
        if answer.response_metadata.get("finish_reason") == "length":
            say("(cut: --max-tokens, or the window, allowed no more)")
        return True
