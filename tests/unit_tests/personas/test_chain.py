"""A persona in front of a model: what reaches the model, and what comes back."""

from __future__ import annotations

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from pydantic import Field

from langchain_qwen import ChatQwen
from langchain_qwen.errors import InvalidParameterError, OutputFormatError, OutputTruncatedError, PersonaError
from langchain_qwen.personas import (
    BulletsForm,
    Example,
    JsonForm,
    LabelsForm,
    Persona,
    SentencesForm,
    TableForm,
    WeakLanguageWarning,
    builtin,
)
from langchain_qwen.personas.chain import PersonaChain
from langchain_qwen.safety import Policy, SafetyParser

ANYONE = Persona(name="anyone", instructions="You are a helpful assistant.")
YES_NO = Persona(name="judge", instructions="Judge.", output=LabelsForm(labels=("yes", "no")))


class Scripted(GenericFakeChatModel):
    """Gives the answers it is told to, and remembers the prompts."""

    prompts: list = Field(default_factory=list)

    def _generate(self, messages, *args, **kwargs):
        self.prompts.append(messages)
        return super()._generate(messages, *args, **kwargs)


def scripted(*answers):
    return Scripted(messages=iter([AIMessage(a) if isinstance(a, str) else a for a in answers]), prompts=[])


@pytest.fixture(scope="module")
def qwen(tiny_checkpoint):
    with ChatQwen(model=str(tiny_checkpoint), temperature=1, precision="fp32", device="cpu", max_tokens=400) as model:
        yield model


class TestForms:
    def test_a_good_answer_is_left_alone(self):
        model = scripted("yes")
        answer = (YES_NO | model).invoke("Well?")
        assert answer.text == "yes"
        assert answer.response_metadata["persona"]["name"] == "judge"
        assert len(model.prompts) == 1

    def test_a_bad_one_is_asked_for_again(self):
        model = scripted("Well, yes", "no")
        assert (YES_NO | model).invoke("Well?").text == "no"
        again = model.prompts[1]
        assert [m.type for m in again] == ["system", "human", "ai", "human"]
        assert "none of: yes, no" in again[-1].text

    async def test_the_same_async(self):
        model = scripted("Well, yes", "no")
        assert (await (YES_NO | model).ainvoke("Well?")).text == "no"

    def test_two_bad_ones_are_an_error(self):
        with pytest.raises(OutputFormatError, match="none of: yes, no"):
            (YES_NO | scripted("maybe", "perhaps")).invoke("Well?")

    def test_a_cut_one_says_so(self):
        cut = AIMessage("- a\nb", response_metadata={"finish_reason": "length"})
        persona = YES_NO.replace(output=BulletsForm())
        with pytest.raises(OutputTruncatedError, match="max_tokens"):
            (persona | scripted(cut, cut)).invoke("Well?")

    async def test_a_refusal_of_a_policy_is_not_corrected(self, qwen):
        rule = {"id": "r", "category": "profanity", "detector": {"pattern": "bad"}, "action": "block"}
        policy = {
            "name": "p",
            "version": "1",
            "refusal": {"en": "Not here."},
            "rules": [{**rule, "applies_to": ["input"]}],
        }
        for inner in (qwen, scripted()):
            guarded = SafetyParser(Policy.parse(policy)).guard(inner)
            with pytest.raises(OutputFormatError, match=r"a safety policy ended.*Not here"):
                (YES_NO | guarded).invoke("bad")
            with pytest.raises(OutputFormatError, match="a safety policy ended"):
                [chunk async for chunk in (YES_NO | guarded).astream("bad")]
            french = ANYONE.replace(language="fr", retry_language=True) | guarded
            answer = await french.ainvoke("bad")
            assert answer.text == "Not here."
            assert answer.response_metadata["safety"]["ended_by"] == "r"

    def test_a_refused_answer_is_not_asked_for_again(self):
        refused = AIMessage("No.", response_metadata={"finish_reason": "content_filter"})
        model = scripted(refused)
        with pytest.raises(OutputFormatError, match="a safety policy ended"):
            (YES_NO | model).invoke("Well?")
        assert len(model.prompts) == 1

    def test_it_streams_in_one_piece_when_it_may_change(self):
        chunks = list((YES_NO | scripted("Well, yes", "no")).stream("Well?"))
        assert [chunk.text for chunk in chunks] == ["no"]
        assert chunks[0].response_metadata["persona"]["name"] == "judge"

    async def test_async_stream(self):
        chunks = [chunk async for chunk in (YES_NO | scripted("Well, yes", "no")).astream("Well?")]
        assert [chunk.text for chunk in chunks] == ["no"]

    def test_it_streams_at_once_otherwise(self):
        chunks = list((ANYONE | scripted("one two three")).stream("Count"))
        assert [chunk.text for chunk in chunks][:3] == ["one", " ", "two"]
        whole = AIMessageChunk(content="")
        for chunk in chunks:
            whole += chunk
        assert whole.text == "one two three"
        assert whole.response_metadata["persona"]["name"] == "anyone"

    @pytest.mark.parametrize(
        "form",
        [
            BulletsForm(at_most=2),
            SentencesForm(at_most=2),
            LabelsForm(labels=("yes", "no")),
            JsonForm(json_schema={"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}),
            TableForm(columns=("a",), max_rows=1),
        ],
        ids=lambda form: form.kind,
    )
    def test_random_weights_keep_to_it(self, qwen, form):
        """The grammar, not the model's good will: each answer is in form, or was cut and says so."""
        chain = YES_NO.replace(output=form, language=None) | qwen
        finished = 0
        for seed in range(1):
            try:
                answer = chain.invoke("Well?", seed=seed, max_tokens=30)
            except OutputTruncatedError:
                continue
            finished += answer.response_metadata["finish_reason"] == "stop"
            assert form.problem(answer.text) is None
        assert finished or form.kind != "labels"

    def test_streaming_under_a_grammar(self, qwen):
        chunks = list((YES_NO | qwen).stream("Well?"))
        assert "".join(chunk.text for chunk in chunks) in ("yes", "no")
        assert len(chunks) > 1

    def test_a_form_and_a_response_format(self, qwen):
        with pytest.raises(InvalidParameterError, match="contradicts response_format"):
            (YES_NO | qwen.bind(response_format={"type": "json_object"})).invoke("Well?")

    def test_with_tools_the_answer_is_checked(self, qwen):
        def add(a: int, b: int) -> int:
            """Add."""
            return a + b

        chain = YES_NO | qwen.bind_tools([add])
        with pytest.raises((OutputFormatError, OutputTruncatedError)):
            chain.invoke("Well?", max_tokens=20, seed=1)


class TestLanguage:
    GERMAN = "Das Wetter ist heute schön und warm."
    ENGLISH = "The weather is nice and warm today."

    def test_a_verdict(self):
        answer = (ANYONE.replace(language="de") | scripted(self.ENGLISH)).invoke("How is it?")
        assert answer.response_metadata["persona"] == {"name": "anyone", "language": "de", "language_held": False}
        answer = (ANYONE | scripted(self.ENGLISH)).invoke("How is the weather today?")
        assert answer.response_metadata["persona"]["language_held"] is True

    def test_one_retry(self):
        model = scripted(self.ENGLISH, self.GERMAN)
        chain = ANYONE.replace(language="de", retry_language=True) | model
        assert chain.invoke("How is it?").text == self.GERMAN
        assert model.prompts[1][-1].text.startswith("Antworte auf Deutsch")

    def test_not_more_than_one(self):
        chain = ANYONE.replace(language="de", retry_language=True) | scripted(self.ENGLISH, self.ENGLISH)
        assert chain.invoke("How is it?").response_metadata["persona"]["language_held"] is False

    def test_weak_ones_warn(self):
        with pytest.warns(WeakLanguageWarning, match="Telugu"):
            (ANYONE.replace(language="te") | scripted("x")).invoke("How is it?")


class TestRunnable:
    def test_pipes(self):
        chain = RunnableLambda(lambda word: f"Say {word}") | (ANYONE | scripted("a", "b")) | StrOutputParser()
        assert chain.invoke("a") == "a"
        assert chain.batch(["a"]) == ["b"]

    def test_bound_models(self):
        assert isinstance(ANYONE | scripted("a").bind(stop=["x"]), PersonaChain)
        assert isinstance(ANYONE.with_model(scripted("a")), PersonaChain)
        assert isinstance(ANYONE.pipe(scripted("a")), PersonaChain)
        assert YES_NO.pipe(scripted("Well, yes", "no"), StrOutputParser()).invoke("Well?") == "no"
        assert not isinstance(ANYONE | RunnableLambda(lambda x: x), PersonaChain)

    def test_overridden_in_one_call(self):
        model = scripted("yes", "sure")
        chain = ANYONE | model
        chain.invoke("Well?", {"configurable": {"persona": YES_NO}})
        assert model.prompts[0][0].text.startswith("Judge.")
        with pytest.raises(PersonaError):
            chain.invoke("Well?", {"configurable": {"persona": "nobody"}})

    def test_variables(self):
        model = scripted("a")
        (builtin("translator") | model).invoke({"input": "Hello", "target": "Dutch"})
        assert "into Dutch" in model.prompts[0][0].text


class TestFitting:
    EXAMPLES = tuple(Example(user=f"Question {n} " * 20, assistant=f"Answer {n}") for n in range(6))

    def shown(self, qwen, **kwargs):
        chain = ANYONE.replace(examples=self.EXAMPLES, language=None) | qwen
        call = chain._prepare("Well?", {}, kwargs)
        assert call.messages[-1].text == "Well?"
        return (len(call.messages) - 2) // 2, qwen.get_num_tokens_from_messages(call.messages)

    def test_as_many_as_the_window_holds(self, qwen):
        window = qwen.profile["max_input_tokens"]
        for max_tokens in (1, 400, 900, 1500, 1900):
            count, tokens = self.shown(qwen, max_tokens=max_tokens)
            assert tokens + max_tokens <= window
            if count < len(self.EXAMPLES):
                persona = ANYONE.replace(examples=self.EXAMPLES[: count + 1], language=None)
                assert qwen.get_num_tokens_from_messages(persona.messages("Well?")) + max_tokens > window
        assert self.shown(qwen, max_tokens=1)[0] > self.shown(qwen, max_tokens=1500)[0]

    def test_warm(self, qwen, tmp_path, monkeypatch):
        monkeypatch.setattr("langchain_qwen.backends.cache_root", lambda: tmp_path)
        persona = ANYONE.replace(instructions="You are the keeper of a lighthouse on a rock in the sea. " * 3)
        held = persona.warm(qwen)
        prompt = persona.messages("A question of someone")
        assert held >= 16
        first = qwen.invoke(prompt, max_tokens=1)
        assert first.usage_metadata["input_token_details"]["cache_read"] >= 16
        shared = qwen.get_num_tokens_from_messages([prompt[0]])
        assert shared - held <= 16 + 8
        assert len(list((tmp_path / "prefixes").iterdir())) == 1


def test_chat_turns_keep_their_own_system_message():
    model = scripted("a")
    (ANYONE | model).invoke([("system", "It is noon."), HumanMessage("Well?")])
    assert model.prompts[0][0].text == "You are a helpful assistant.\n\nIt is noon."
