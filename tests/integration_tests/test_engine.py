"""The engine on a real checkpoint equals transformers' own `generate`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from langchain_core.messages import HumanMessage, SystemMessage
from transformers import AutoModelForCausalLM

from langchain_qwen import ChatQwen
from langchain_qwen.checkpoints import resolve
from langchain_qwen.checkpoints.pulling import in_safetensors

PROMPTS = [
    "Why is the sky blue?",
    "Write a haiku about rain.",
    "Translate 'good morning' into French, German and Spanish.",
    "What is 17 times 23?",
    "用中文介绍一下长城。",
    "日本の首都はどこですか。",
    "ما هي عاصمة مصر؟",
    "Wie heißt der längste Fluss Europas?",
    "Напиши одно предложение о весне.",
    "한국의 수도는 어디입니까?",
    "Write a Python function that reverses a string.",
    "SELECT the names of all users older than 30 in SQL.",
    "Complete: 1, 1, 2, 3, 5, 8,",
    "List three colours.",
    "Explain recursion to a child.",
    "What does HTTP status 404 mean?",
    "Give me a JSON object with a name and an age.",
    "Is a tomato a fruit? Answer yes or no.",
    "Tell me a joke about computers. 😀",
    "ประเทศไทยอยู่ที่ไหน",
]
NEW_TOKENS = 16
# Where the two best tokens are this close, the rounding of another summation order may decide.
NEAR_TIE = 1e-3


@pytest.fixture(scope="module")
def answers():
    """Ids of all prompts and what the engine answers in fp32, all at once."""
    with ChatQwen(
        model="coder-0.5b", precision="fp32", temperature=0, repetition_penalty=1, max_tokens=NEW_TOKENS, top_logprobs=0
    ) as model:
        prompter = model.prompter
        ids = [prompter.encode([HumanMessage(prompt)]) for prompt in PROMPTS]
        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            messages = list(pool.map(model.invoke, PROMPTS))
        chosen = [
            [bytes(entry["bytes"]) for entry in message.response_metadata["logprobs"]["content"]]
            for message in messages
        ]
        return ids, chosen, model._open().tokenizer


@torch.inference_mode()
def test_greedy_equals_generate(answers):
    ids, chosen, tokenizer = answers
    checkpoint = in_safetensors(resolve("coder-0.5b"), "fp32")
    reference = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32)
    for prompt, ours in zip(ids, chosen, strict=True):
        out = reference.generate(
            torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False, repetition_penalty=1.0
        )[0, len(prompt) :].tolist()
        theirs = [token for token in out if token not in checkpoint.eos_token_ids]
        expected = [tokenizer.token_bytes(token) for token in theirs]
        if ours != expected:
            place = next(i for i, (a, b) in enumerate(zip([*ours, b""], [*expected, b""], strict=False)) if a != b)
            logits = reference(torch.tensor([prompt + theirs[:place]])).logits[0, -1]
            best, second = logits.topk(2).values.tolist()
            assert best - second < NEAR_TIE, (ours, expected)


def test_int8_answers_like_fp32(answers, model):
    """Most greedy answers begin alike; the exact figures are in benchmarks/RESULTS.md."""
    _, chosen, _ = answers
    agree = 0
    for prompt, ours in zip(PROMPTS, chosen, strict=True):
        message = model.invoke(prompt, repetition_penalty=1, max_tokens=4, top_logprobs=0)
        first = [bytes(entry["bytes"]) for entry in message.response_metadata["logprobs"]["content"]]
        agree += first[:2] == ours[:2]
    assert agree >= 16


def test_a_cached_system_prompt_makes_the_second_question_cheap(model):
    system = SystemMessage("You answer in one word. " + "Be exact. " * 60)
    model.invoke([system, HumanMessage("Capital of Italy?")], max_tokens=3)
    second = model.invoke([system, HumanMessage("Capital of Spain?")], max_tokens=3)
    usage = second.usage_metadata
    assert usage["input_token_details"]["cache_read"] > 0.9 * usage["input_tokens"] - 16
