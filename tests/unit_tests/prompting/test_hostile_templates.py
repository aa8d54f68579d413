"""Chat templates made to do harm: each ends soon, in little memory, with an error that says what is wrong."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from langchain_qwen.errors import CheckpointError, IncompleteCheckpointError, InvalidMessagesError
from langchain_qwen.prompting.template import ChatTemplate

TEMPLATE = Path(__file__).parents[2] / "data" / "qwen2.5_chat_template.jinja"
MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
LOOP = "{% for a in range(99999) %}"
DOUBLE = "{% set ns = namespace(x='aaaaaaaa', l=[1, 2], n=99, d={}) %}{% for i in range(60) %}"
SECONDS, MEMORY = 6, 3 << 30  # of CPU; what each needs here is about 1 s and 200 MB

# ruff: noqa: E501, RUF005
BOMBS = {
    "nested loops": LOOP * 3 + "{% endfor %}" * 3,
    "nested loops with output": LOOP * 3 + "x" * 100 + "{% endfor %}" * 3,
    "a loop whose turns are all skipped": LOOP + "{% for b in range(99999) if b > 99999 %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a wide recursive loop": "{% for a in range(999) recursive %}{% if loop.depth < 9 %}{{ loop(range(999)) }}"
    "{% endif %}{% endfor %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "a macro that captures twice as much": "{% macro f(n) %}{% if n %}{% set x = f(n - 1) %}{{ x }}{{ x }}{% else %}abcd"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "a caller that calls itself": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}" + LOOP * 2
    + "{% call f() %}{% call f() %}x{% endcall %}{% endcall %}" + "{% endfor %}" * 2,
    "a block that renders itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "a doubled text": DOUBLE + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a text times eight": DOUBLE + "{% set ns.x = ns.x + ns.x + ns.x + ns.x + ns.x + ns.x + ns.x + ns.x %}{% endfor %}",
    "many sums": DOUBLE + "{% set ns.x = " + " + ".join(["ns.x"] * 200) + " %}{% endfor %}",
    "a doubled text by ~": DOUBLE + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a doubled text by a block": DOUBLE + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "a doubled text by output": DOUBLE + "{% set ns.x = ns.x + ns.x %}{{ ns.x }}{% endfor %}",
    "a doubled list": DOUBLE + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "a list of itself": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "a list of itself as JSON": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
    "a list of itself by ~": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{% set x = ns.l ~ '' %}",
    "a list of itself by format": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ '%s' % ns.l }}",
    "a list of itself by join": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | join }}",
    "a list of itself by string": DOUBLE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | string | length }}",
    "lists of itself compared": "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    "lists of itself tested": "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a is eq ns.b }}",
    "a list of itself by batch": DOUBLE + "{% set ns.l = ([ns.l, ns.l] | batch(2) | list)[0] %}{% endfor %}{{ ns.l }}",
    "a dict of itself": DOUBLE + "{% set ns.d = {'a': ns.d, 'b': ns.d} %}{% endfor %}{{ ns.d }}",
    "a namespace in itself": DOUBLE + "{% set ns.l = [ns, ns] %}{% endfor %}{{ ns }}",
    "the input many times": "{{ ([messages] * 99999) | tojson | length }}" * 100,
    "texts as keys": DOUBLE + "{% set ns.x = ns.x ~ ns.x %}{% set ns.d = {ns.x: ns.x} %}{% endfor %}",
    "a long product": "{{ 'a' * 10**10 }}",
    "a long product by a variable": "{% set n = 999999999 %}{{ 'aaaa' * n }}",
    "a long product the other way": "{% set n = 999999999 %}{{ n * 'aaaa' }}",
    "a list times a number": "{% set n = 9999999999 %}{% set x = [0] * n %}",
    "a tuple times a number": "{% set n = 9999999999 %}{% set x = (0, 1) * n %}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "powers of a number": DOUBLE + "{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
    "a number from digits": "{% set x = ('f' * 9000000) | int(base=16) %}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a wide format by *": "{{ '%*d' % (1000000000, 1) }}",
    "a precise format": "{{ '%.1000000000f' % 1.0 }}",
    "a wide format method": "{{ '{:>1000000000}'.format(1) }}",
    "a wide nested format method": "{{ '{:>{w}}'.format(1, w=1000000000) }}",
    "a wide format map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "a wide format filter": "{{ '%1000000000d' | format(1) }}",
    "a format that repeats": "{{ ('{0}' * 99999).format('a' * 99999) }}",
    "a wide center": "{{ 'a' | center(1000000000) }}",
    "a wide center method": "{{ 'a'.center(1000000000) }}",
    "a wide ljust": "{{ 'a'.ljust(1000000000) }}",
    "a wide zfill": "{{ 'a'.zfill(1000000000) }}",
    "wide tabs": "{{ ('\\t' * 9999).expandtabs(9999999) }}",
    "a wide indent": "{{ ('a\\n' * 9999) | indent(999999) }}",
    "JSON indented widely": "{{ {'a': [1, 2]} | tojson(indent=1000000000) }}",
    "a long join": "{{ range(99999) | join('a' * 99999) }}",
    "a long join method": "{{ ('a' * 99999).join('b' * 99999) }}",
    "a long replace": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "a long replace filter": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "a long replace between": "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "a long translation": "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "a long strip": LOOP + "{% set x = ('a' * 9999).strip('b' * 9999) %}{% endfor %}",
    "a sum of lists": "{{ ([[1]] * 99999) | sum(start=[]) | length }}" * 99,
    "many slices": "{% set x = 'a' * 999999 %}" + LOOP + "{% set y = x[1:] %}{% endfor %}",
    "many slices of lists": "{% set x = range(99999) | list %}" + LOOP + "{% set y = x[1:] %}{% endfor %}",
    "many searches": "{% set x = 'a' * 999999 %}" + LOOP + "{% set y = 'b' in x %}{% endfor %}",
    "many searches in lists": "{% set x = range(99999) | list %}" + LOOP + "{% set y = a in x[:-1] %}{% endfor %}",
    "many comparisons": "{% set x = 'a' * 999999 %}{% set z = x + '' %}" + LOOP + "{% set y = x == z %}{% endfor %}",
    "many calls": "{% set x = 'a' * 999999 %}" + LOOP + "{% set y = x.upper() %}{% endfor %}",
    "many list calls": "{% set x = range(99999) | list %}" + LOOP + "{% set y = x.count('a') %}{% endfor %}",
    "many filters": "{% set x = 'a' * 999999 %}" + LOOP + "{% set y = x | upper %}{% endfor %}",
    "many differences": "{% set x = {}.fromkeys(range(99999)).keys() %}" + LOOP + "{% set y = x - x %}{% endfor %}",
    "chains of generators": LOOP + "{% set x = range(99999)" + " | select" * 50 + " | list %}{% endfor %}",
    "chains of maps": "{{ range(99999)" + " | map('string')" * 400 + " | join }}",
    "filters in a filter": LOOP + "{{ range(99999) | map('center', 99) | list | length }}{% endfor %}",
    "a sorted list again and again": "{% set x = range(99999) | list %}" + LOOP + "{% set y = x | sort %}{% endfor %}",
    "many batches": "{{ range(99999) | batch(99999999, 0) | list | length }}",
    "many slices by the filter": "{{ range(9) | slice(99999999, 0) | list | length }}",
    "a wide date": "{{ strftime_now('%999999999d' * 99999) }}",
    "a cycle of all": LOOP + "{{ loop.cycle(*range(99999)) }}{% endfor %}",
    "changes of something long": "{% set x = 'a' * 999999 %}" + LOOP + "{{ loop.changed(x) }}{% endfor %}",
    "a dict of many": LOOP + "{% set x = dict(messages[0], **{}.fromkeys(['a'] * 9999)) %}{% set y = {}.fromkeys(range(9999)) %}"
    "{% endfor %}",
}  # fmt: skip


def test_no_template_takes_long_or_much_memory() -> None:
    """One process for all, since each start costs a second; it prints what came of each bomb as it goes."""
    code = """
    import json, sys, time
    from langchain_qwen.errors import QwenError
    from langchain_qwen.prompting import template
    from langchain_qwen.prompting.template import ChatTemplate
    template.UNITS //= 10  # all of them would take a minute
    messages = json.loads(sys.argv[1])
    for name, source in json.load(sys.stdin).items():
        print("begin", name, flush=True)
        start = time.process_time()
        try:
            done = f"{len(ChatTemplate(source, ()).render(messages, [])):,} characters"
        except QwenError as error:
            done = f"{type(error).__name__}: {error}"
        print("end", json.dumps([name, time.process_time() - start, done]), flush=True)
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (len(BOMBS) * SECONDS, len(BOMBS) * SECONDS))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), json.dumps(MESSAGES)],
        input=json.dumps(BOMBS),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    results = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("end ")]
    assert len(results) == len(BOMBS), done.stdout[-300:] + done.stderr[-2000:]
    for name, seconds, result in results:
        assert seconds < SECONDS / 4, (name, seconds, result)
        assert "chat template" in result, (name, result)
        assert "MemoryError" not in result, (name, result)


def render(source: str, messages: list[dict[str, object]] = MESSAGES) -> str:
    return ChatTemplate(source, (("eos_token", "</s>"),)).render(messages, [])


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{{ 1 | no_such_filter }}", "{% break %}", "{{ ('a' }}", "{{ x is no_such_test }}", "{" * 99]
    + ["{% if true %}" * 30, "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "x" * 70_000, "{{ 'a' | urlize }}"],
)
def test_what_is_no_template_is_a_damaged_checkpoint(source: str) -> None:
    with pytest.raises(IncompleteCheckpointError, match="chat template"):
        render(source)


@pytest.mark.parametrize(
    "source",
    ["{{ 1 + 'a' }}", "{{ 1 / 0 }}", "{% include 'x' %}", "{{ range(10**9) }}", "{{ messages | sort }}", "{{ 'a'() }}"]
    + ["{{ none.upper() if false else messages['a' : 2] }}", "{{ '%d' % 'a' }}", "{{ 'é'.encode('ascii') }}"],
)
def test_what_fails_is_a_typed_error(source: str) -> None:
    with pytest.raises((CheckpointError, InvalidMessagesError), match="chat template"):
        render(source)


@pytest.mark.parametrize(
    "source",
    ["{{ nothing.at_all }}", "{{ nothing() }}", "{{ raise_exception('no') }}", "{{ ''.__class__.__mro__[1].x }}"]
    + ["{{ messages.append(1) }}", "{{ messages[0].update(a=1) }}", "{{ raise_exception.__globals__['os'].x }}"]
    + ["{{ '{0.__class__.__mro__[1].x}'.format(1) }}"],
)
def test_what_is_forbidden_or_undefined_refuses_the_messages(source: str) -> None:
    with pytest.raises(InvalidMessagesError, match="refuses the messages"):
        render(source)


def test_what_templates_use_still_works() -> None:
    source = (
        "{% set ns = namespace(n=0) %}{% macro say(x, y='!') %}{{ x | trim }}{{ y }}{% endmacro %}"
        "{% for m in messages[1:] if m.role != 'tool' %}{{ loop.index }}/{{ loop.length }}:{{ say(' hi ') }}"
        "{% set ns.n = ns.n + 2 ** 3 %}{% endfor %}|{{ ns.n }}|{{ {'a': [1, 'é<']} | tojson }}"
        "|{{ {'a': 1} | tojson(indent=1) }}|{{ messages | map(attribute='role') | join(', ') }}"
        "|{{ 'a-b'.split('-')[-1] ~ 1 ~ true }}|{{ '%s %5.1f' % ('x', 2) }}|{{ '{:>4}'.format('y') }}"
        "|{% for k, v in {'p': 1, 'q': 2}.items() %}{{ k }}{{ v }}{% endfor %}|{{ 'x' * 3 }}|{{ eos_token }}"
        "|{% for k, v in messages[0] | dictsort %}{{ k }}={{ v }};{% endfor %}|{{ messages[0].nothing is defined }}"
        "|{{ 'user' in messages | map(attribute='role') | list }}|{{ strftime_now('%%') }}"
        "|{% for a in [[1, [2]], 3] recursive %}{% if a is sequence %}<{{ loop(a) }}>{% else %}{{ a }}{% endif %}"
        "{% endfor %}"
    )
    assert render(source) == (
        '1/1:hi!|8|{"a": [1, "é<"]}|{\n "a": 1\n}|user, assistant|b1True|x   2.0|   y|p1q2|xxx|</s>'
        "|content=hello;role=user;|False|True|%|<1<2>>3"
    )


def test_a_long_conversation_has_a_budget_of_its_size() -> None:
    messages: list[dict[str, object]] = [{"role": "user", "content": "x" * 1000}, MESSAGES[1]] * 50_000
    start = time.process_time()
    text = render(TEMPLATE.read_text(encoding="utf-8"), messages)
    assert time.process_time() - start < 10  # 0.5 s where nothing else runs
    assert text.count("<|im_start|>") == 100_002


def test_long_tools_have_a_budget_of_their_size() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 20_000_000}}]
    text = ChatTemplate(TEMPLATE.read_text(encoding="utf-8"), ()).render([dict(m) for m in MESSAGES], tools)
    assert len(text) > 20_000_000


def test_each_rendering_has_a_budget_of_its_own() -> None:
    source = "{% for a in range(99999) %}{% endfor %}" * 5 + "x"
    assert {render(source) for _ in range(10)} == {"x"}


def test_counting_costs_next_to_nothing() -> None:
    """Against the sandbox alone, whose way over an exception for each key is avoided here."""
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    plain.filters["tojson"] = json.dumps
    source = TEMPLATE.read_text(encoding="utf-8")
    messages = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hi"}] * 2000

    def cost(work: Callable[[], str]) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        return best

    template = plain.from_string(source)
    bare = cost(lambda: template.render(messages=messages, tools=None, add_generation_prompt=True))
    assert cost(lambda: render(source, messages)) < 1.3 * bare  # 0.6 where nothing else runs
