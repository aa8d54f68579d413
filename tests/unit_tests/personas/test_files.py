"""Personas in files."""

from __future__ import annotations

import json

import pytest

from langchain_qwen.errors import PersonaError
from langchain_qwen.personas import Persona, load_persona, load_personas

YAML = """\
# a guide
instructions: You show people {city}.
tone: merry
variables:
  city: Rome
examples:
  - user: Hi
    assistant: Ciao
output: {kind: bullets, at_most: 3}
"""
TOML = """\
instructions = "You show people {city}."
tone = "merry"

[variables]
city = "Rome"

[[examples]]
user = "Hi"
assistant = "Ciao"

[output]
kind = "bullets"
at_most = 3
"""
VALUES = {
    "instructions": "You show people {city}.",
    "tone": "merry",
    "variables": {"city": "Rome"},
    "examples": [{"user": "Hi", "assistant": "Ciao"}],
    "output": {"kind": "bullets", "at_most": 3},
}
TEXTS = {".yaml": YAML, ".yml": YAML, ".toml": TOML, ".json": json.dumps(VALUES, indent="\t")}


@pytest.mark.parametrize("ending", TEXTS)
def test_all_formats_say_the_same(tmp_path, ending):
    path = tmp_path / f"guide{ending}"
    path.write_text(TEXTS[ending], encoding="utf-8")
    assert load_persona(path) == Persona(name="guide", **VALUES)
    assert load_persona(str(path)).name == "guide"


@pytest.mark.parametrize(
    ("ending", "change", "line", "message"),
    [
        (".yaml", ("tone: merry", "tonne: merry"), 3, "tonne"),
        (".yaml", ("user: Hi", "usr: Hi"), 7, "examples.0.u"),
        (".yaml", ("at_most: 3", "at_most: no"), 9, "at_most"),
        (".yaml", ("  city: Rome", "  town: Rome"), 2, "city"),
        (".yaml", ("tone: merry", "tone: [merry"), 4, "expected"),
        (".yaml", ("tone: merry", "tone: a\ntone: b"), 4, "'tone' is there twice"),
        (".toml", ('tone = "merry"', 'tonne = "merry"'), 2, "tonne"),
        (".toml", ('user = "Hi"', "user = 3"), 8, "examples.0.user"),
        (".toml", ("at_most = 3", 'at_most = "few"'), 13, "at_most"),
        (".toml", ('tone = "merry"', "tone = merry"), 2, "line 2"),
        (".json", ('"tone"', '"tonne"'), 3, "tonne"),
        (".json", ('"user": "Hi"', '"user": 7'), 9, "examples.0.user"),
        (".json", ('"merry",', '"merry"'), 4, "delimiter"),
    ],
)
def test_errors_name_the_line(tmp_path, ending, change, line, message):
    text = TEXTS[ending]
    assert change[0] in text
    path = tmp_path / f"guide{ending}"
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(PersonaError) as caught:
        load_persona(path)
    assert f"{path}, line {line}: " in str(caught.value)
    assert message in str(caught.value)


def test_several_mistakes_are_all_told(tmp_path):
    path = tmp_path / "guide.yaml"
    path.write_text("tone: 3\nlanguage: klingon\n", encoding="utf-8")
    with pytest.raises(PersonaError) as caught:
        load_persona(path)
    for part in ("line 1: instructions", "line 1: tone", "line 2: language"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"", "ends in .yaml"),
        ("x.yaml", b"\xff", "not UTF-8"),
        ("x.yaml", b"- a", "a mapping"),
        ("x.yaml", b"", "a mapping"),
        ("x.yaml", b"{1: 2}", "1"),
        ("missing.yaml", None, "cannot be read"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PersonaError, match=message):
        load_persona(tmp_path / name)


def test_folders(tmp_path):
    (tmp_path / "guide.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / "other.toml").write_text(TOML, encoding="utf-8")
    assert list(load_personas(tmp_path)) == ["guide", "other"]
    (tmp_path / "other.toml").write_text('name = "guide"\n' + TOML, encoding="utf-8")
    with pytest.raises(PersonaError, match="both hold a persona named 'guide'"):
        load_personas(tmp_path)
    with pytest.raises(PersonaError, match="no folder"):
        load_personas(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "instructions: hi\n? [a, b]\n: c\n", "line 2: a name is text"),
        ("a.yaml", "instructions: hi\ntone: a\x07b\n", "line 2: the character #x0007"),
        ("a.yaml", "instructions: hi\ntone: 2024-99-99\n", "month must be"),
        ("a.yaml", "instructions: " + "[" * 5000, "nests too deeply"),
        ("a.json", '{"instructions": ' + "[" * 100_000 + "}", "nests too deeply"),
        ("a.toml", "instructions = " + "[" * 5000 + "]" * 5000, "nests too deeply"),
        ("a.json", '{"instructions": ' + "9" * 5000 + "}", "cannot be read"),
    ],
)
def test_hostile_files_are_refused_with_a_reason(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PersonaError, match=message):
        load_persona(path)


@pytest.mark.parametrize("ending", TEXTS)
def test_a_mark_of_byte_order_is_no_text(tmp_path, ending):
    path = tmp_path / f"guide{ending}"
    path.write_text(TEXTS[ending], encoding="utf-8-sig")
    assert load_persona(path).instructions == VALUES["instructions"]


def test_json_may_hold_what_yaml_may_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"instructions": "a\x7fb"}', encoding="utf-8")
    assert load_persona(path).instructions == "a\x7fb"
