"""The passes of one call, each checked as far as that can be done before any weights are loaded.

Most calls have one. Which tools are called may be decided by a pass before (`langchain_qwen.output.deciding`), and
where a pass brings nothing another one follows (`langchain_qwen.output.passes`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from langchain_core.messages import BaseMessage

from langchain_qwen.engine import Constraint, Request
from langchain_qwen.errors import ContextOverflowError, InvalidParameterError
from langchain_qwen.generating.arguments import Arguments
from langchain_qwen.opening import OpenModel
from langchain_qwen.output import deciding
from langchain_qwen.output.answer import Answer
from langchain_qwen.output.call_examples import NONE
from langchain_qwen.output.passes import after_results
from langchain_qwen.output.plan import OutputPlan, plan_output
from langchain_qwen.parameters import MAX_ANSWER_TOKENS, GenerationParameters
from langchain_qwen.prompting import check_conversation
from langchain_qwen.prompting.roles import Role
from langchain_qwen.prompting.tokenizer import Tokenizer
from langchain_qwen.together import interruption

OpenModelOf = Callable[[str | None], OpenModel]
"""By the name of a model; None is the caller's own."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything that one generation needs.

    Attributes:
        model: The files.
        plan: The form of the output.
        parameters: As the call has them.
        request: What the engine is asked.
        otherwise: What follows where this brings nothing. For a pass that decides, what is generated where there is no
            room for it.
        then: What follows a pass that decides, by what it said.
    """

    model: OpenModel
    plan: OutputPlan
    parameters: GenerationParameters
    request: Request
    otherwise: Pass | None
    then: Callable[[str], Pass] | None = None

    def next(self, answer: Answer) -> Pass | None:
        """What has to be generated after this, which has brought nothing."""
        return self.then(answer.decision) if self.then else self.otherwise


def prepare(asked: Arguments, messages: list[BaseMessage], open_model: OpenModelOf) -> Pass:
    """The first pass of a call, with all checks that need no weights.

    Args:
        asked: The call's arguments.
        messages: The conversation.
        open_model: Finds and checks the files of a model; what can be refused without them is refused before.
    """
    started = time.monotonic()
    parameters = asked.parameters
    plan = after_results(plan_output(**asked.plan), messages, parameters.tool_hint)
    roles = check_conversation(messages)
    model = open_model(asked.model).with_form(parameters)
    _check_bias(parameters.logit_bias, model.checkpoint.vocab_size)
    # Says so now where reading megabytes would only tell how many too many they are.
    _answer_room(model.prompter.least(messages), parameters.max_tokens, model.checkpoint.context_window, "at least ")
    deadline = None if parameters.timeout is None else started + parameters.timeout
    answering = _pass(model, plan, parameters, roles, deadline)
    decides = parameters.decide_calls and not parameters.continue_final_message and deciding.is_open(plan)
    return _deciding(answering, roles) if decides else answering


def _deciding(answering: Pass, roles: list[Role]) -> Pass:
    """The passes that decide which calls are made; see `langchain_qwen.output.deciding`."""
    model, plan = answering.model, answering.plan
    size = model.checkpoint.config["hidden_size"]
    none = model.tokenizer.encode(NONE)[0]

    def answer(said: str) -> Pass:
        return _pass(model, deciding.decided(plan, said), answering.parameters, roles, answering.request.deadline)

    def ask_further(outlined: str) -> Pass:
        due = deciding.due(outlined, roles)
        bias = {none: deciding.next_leaning(size, due=bool(due))}
        return _asking(answering, deciding.next_calls(plan, roles), deciding.next_grammar(plan, due), bias, answer)

    outline_bias = partial(deciding.outline_bias, size, none, _call_ends(model.tokenizer))

    def outlined(said: str) -> Pass:
        return doubted(said, deciding.tools_in_doubt(said))

    def doubted(outline: str, names: Sequence[str]) -> Pass:
        """Ask of each tool of an outline whether it is needed where it is the only one."""
        if not names:
            return ask_further(outline) if deciding.has_results(roles) else answer(outline)
        alone = deciding.with_tool(plan, names[0])

        def then(said: str) -> Pass:
            return doubted(deciding.without(outline, names[0]) if deciding.is_none(said) else outline, names[1:])

        asked, bias = deciding.outline(alone, roles), outline_bias(waits=deciding.waits(outline, names[0]))
        return _asking(answering, asked, deciding.outline_grammar(alone), bias, then, max_tokens=1)

    return _asking(answering, deciding.outline(plan, roles), deciding.outline_grammar(plan), outline_bias(), outlined)


@lru_cache(8)
def _call_ends(tokenizer: Tokenizer) -> list[int]:
    return [token for token in range(tokenizer.vocab_size) if deciding.ends_a_call(tokenizer.token_bytes(token))]


def _asking(
    answering: Pass,
    asked: list[Role],
    grammar: str,
    logit_bias: dict[int, float],
    then: Callable[[str], Pass],
    *,
    max_tokens: int = deciding.MAX_TOKENS,
) -> Pass:
    """A pass that decides. Where its prompt does not fit, the model decides while it answers."""
    plan = OutputPlan(grammar=grammar, calls=False, shown=False, decides=True)
    parameters = GenerationParameters(
        temperature=0.0, repetition_penalty=1.0, max_tokens=max_tokens, logit_bias=logit_bias
    )
    try:
        first = _pass(answering.model, plan, parameters, asked, answering.request.deadline)
    except ContextOverflowError:
        return answering
    return replace(first, otherwise=answering, then=then)


def _pass(
    model: OpenModel, plan: OutputPlan, parameters: GenerationParameters, roles: list[Role], deadline: float | None
) -> Pass:
    """One pass of a call, with the one that follows where it brings nothing."""
    checkpoint = model.checkpoint
    constraint = None if plan.grammar is None else Constraint(model.tokenizer.llguidance, plan.grammar)
    if constraint is not None:
        constraint.check()
    prompt_ids = model.prompter.encode_roles(plan.after(roles), plan.tools, thinks=plan.thinks)
    following = plan.otherwise
    otherwise = _pass(model, following, parameters, roles, deadline) if following else None
    request = Request(
        prompt_ids=tuple(prompt_ids),
        max_tokens=_answer_room(len(prompt_ids), parameters.max_tokens, checkpoint.context_window),
        stop_ids=checkpoint.eos_token_ids | model.tokenizer.turn_starts,
        sampling=parameters.sampling(checkpoint.generation, exact_copying=bool(plan.tools or plan.grammar)),
        top_logprobs=parameters.top_logprobs if parameters.logprobs is not True else parameters.top_logprobs or 0,
        constraint=constraint,
        deadline=deadline,
        interrupted=interruption(),
    )
    return Pass(model, plan, parameters, request, otherwise)


def _check_bias(logit_bias: Mapping[int, float] | None, vocab_size: int) -> None:
    """Raise `InvalidParameterError` for a token that the vocabulary lacks."""
    for token in logit_bias or ():
        if not 0 <= token < vocab_size:
            raise InvalidParameterError(
                f"logit_bias names the token {token}; this model's tokens go from 0 to {vocab_size - 1}"
            )


def _answer_room(prompt_tokens: int, max_tokens: int | None, window: int, at_least: str = "") -> int:
    """How long the answer may get.

    Raises:
        ContextOverflowError: When the prompt and the answer that was asked for are longer than the window.
    """
    room = window - prompt_tokens
    reserved = max_tokens or 1
    if room < reserved:
        raise ContextOverflowError(
            f"the prompt has {at_least}{prompt_tokens} tokens and {reserved} are reserved for the answer, but the "
            f"context window holds {window}: {at_least}{reserved - room} too many. Shorten or trim the messages, or "
            "lower `max_tokens`",
            prompt_tokens=prompt_tokens,
            reserved_tokens=reserved,
            context_window=window,
        )
    return max_tokens or min(room, MAX_ANSWER_TOKENS)
