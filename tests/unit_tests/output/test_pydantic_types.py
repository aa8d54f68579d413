"""Whatever a grammar writes for a type of pydantic is accepted by that very type."""

from __future__ import annotations

import collections
import datetime
import enum
import ipaddress
import json
import pathlib
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import jsonschema
import pydantic
import pytest
from langchain_core.tools import StructuredTool
from pydantic import Field, TypeAdapter
from typing_extensions import NotRequired, Required, TypedDict

from langchain_qwen import errors
from langchain_qwen.converting import json_schema_of, openai_tool_of
from langchain_qwen.output.grammars import json_schema, tool_calls
from tests.unit_tests.output.answers import allows, random_answers

T = TypeVar("T")


class Uncertain(TypedDict):
    """LangChain reads no `NotRequired`."""

    number: NotRequired[int]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float = 0.5


@dataclass
class Size:
    width: Annotated[int, Field(ge=0)]
    unit: Literal["cm", "in"] = "cm"


class Movie(TypedDict, total=False):
    title: Required[str]
    year: NotRequired[int]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=1, le=9)


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: set[str] = set()


class Fish(pydantic.BaseModel):
    kind: Literal["fish"] = "fish"
    depth: float | None = None


class Bird(pydantic.BaseModel):
    kind: Literal["bird", "parrot"] = "bird"
    model_config = pydantic.ConfigDict(extra="forbid")


class Owner(pydantic.BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")
    others: list[Annotated[Fish | Bird, Field(discriminator="kind")]] = []


class Tree(pydantic.BaseModel):
    value: int
    left: Tree | None = None
    children: list[Tree] = []


class Sum(pydantic.BaseModel):
    op: Literal["sum"]
    terms: list[Expression]


class Leaf(pydantic.BaseModel):
    op: Literal["leaf"]
    value: float


Expression = Annotated[Sum | Leaf, Field(discriminator="op")]
Sum.model_rebuild()


class Box(pydantic.BaseModel, Generic[T]):
    content: T
    model_config = pydantic.ConfigDict(extra="allow")


class Aliased(pydantic.BaseModel):
    name: str = Field(alias="full name", min_length=1, max_length=20)
    when: datetime.datetime = Field(default_factory=datetime.datetime.now)


class Words(pydantic.RootModel[list[Annotated[str, Field(pattern="^[a-z]+$")]]]):
    pass


TYPES: dict[str, Any] = {
    "date": datetime.date,
    "datetime": datetime.datetime,
    "aware datetime": pydantic.AwareDatetime,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    **{f"uuid{n}": getattr(pydantic, f"UUID{n}") for n in (1, 3, 4, 5, 6, 7, 8) if hasattr(pydantic, f"UUID{n}")},
    "uuid": uuid.UUID,
    "bytes": bytes,
    "base64 bytes": pydantic.Base64Bytes,
    "base64 str": pydantic.Base64Str,
    "base64url bytes": pydantic.Base64UrlBytes,
    "base64url str": pydantic.Base64UrlStr,
    "IPv4 address": ipaddress.IPv4Address,
    "IPv6 address": ipaddress.IPv6Address,
    "IPv4 network": ipaddress.IPv4Network,
    "IPv6 network": ipaddress.IPv6Network,
    "IPv4 interface": ipaddress.IPv4Interface,
    "IPv6 interface": ipaddress.IPv6Interface,
    "any IP address": pydantic.IPvAnyAddress,
    "any IP network": pydantic.IPvAnyNetwork,
    "any IP interface": pydantic.IPvAnyInterface,
    "URL": pydantic.AnyUrl,
    "HTTP URL": pydantic.HttpUrl,
    "any HTTP URL": pydantic.AnyHttpUrl,
    "path": pathlib.Path,
    "pattern": re.Pattern,
    "secret": pydantic.SecretStr,
    "secret bytes": pydantic.SecretBytes,
    "JSON value": pydantic.JsonValue,
    "any": Any,
    "none": None,
    "bool": bool,
    "strict int": pydantic.StrictInt,
    "int range": Annotated[int, Field(gt=-3, lt=1000)],
    "large int": Annotated[int, Field(ge=2**62, le=2**63 - 1)],
    "multiple": Annotated[int, Field(multiple_of=5)],
    "half": Annotated[float, Field(multiple_of=0.5)],
    "float range": Annotated[float, Field(gt=0, le=1)],
    "finite float": pydantic.FiniteFloat,
    "bounded str": Annotated[str, Field(min_length=2, max_length=5)],
    "pattern str": Annotated[str, Field(pattern=r"^\d{3}-[A-Z]+$")],
    "stripped str": Annotated[str, pydantic.StringConstraints(to_lower=True, max_length=5)],
    "enum": Color,
    "int enum": Level,
    "literal": Literal["a", 1, None, True],
    "union": int | str | None,
    "list": list[int],
    "bounded list": Annotated[list[str], Field(min_length=1, max_length=3)],
    "set": set[int],
    "bounded set": Annotated[set[str], Field(min_length=2, max_length=4)],
    "frozenset of enum": frozenset[Color],
    "set of dates": set[datetime.date],
    "deque": collections.deque[int],
    "tuple": tuple[int, str],
    "open tuple": tuple[int, ...],
    "empty tuple": tuple[()],
    "named tuple": Point,
    "sequence": Sequence[int],
    "iterable": Iterable[int],
    "dict": dict[str, float],
    "mapping": Mapping[str, list[int]],
    "counter": collections.Counter[str],
    "ordered dict": collections.OrderedDict[str, int],
    "dict of literals": dict[Literal["a", "b"], int],
    "dict of enum": dict[Color, int],
    "dict of patterns": dict[Annotated[str, Field(pattern="^x-")], int],
    "dict of short names": dict[Annotated[str, Field(min_length=2, max_length=3)], int],
    "dict of dates": dict[datetime.date, int],
    "dict of uuids": dict[uuid.UUID, int],
    "dict of integers": dict[Annotated[str, Field(pattern="^[0-9]+$")], int],
    "bounded dict": Annotated[dict[str, int], Field(min_length=1, max_length=3)],
    "dataclass": Size,
    "typed dict": Movie,
    "model": Cat,
    "discriminated union": Owner,
    "recursive model": Tree,
    "recursive discriminated union": Sum,
    "generic model": Box[Box[int]],
    "aliases and factories": Aliased,
    "root model": Words,
}
if hasattr(pydantic, "EmailStr"):
    try:
        TypeAdapter(pydantic.EmailStr)
        TYPES |= {"email": pydantic.EmailStr}
    except ImportError:  # email-validator is no dependency
        pass


@pytest.mark.parametrize("name", TYPES)
def test_answers_are_accepted_by_the_type_that_was_asked_for(name: str):
    adapter = TypeAdapter(TYPES[name])
    schema = adapter.json_schema()
    answers = list(random_answers(json_schema(schema), seed=1, count=12, max_tokens=150))
    assert len(answers) > 2
    for text in answers:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        adapter.validate_json(text)


CLASSES = ["discriminated union", "model", "aliases and factories", "recursive model", "recursive discriminated union"]


def arguments(tool: Any) -> Iterable[dict[str, Any]]:
    for text in random_answers(tool_calls([openai_tool_of(tool)], parallel=False), seed=2, count=10):
        yield json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))["arguments"]


@pytest.mark.parametrize("name", CLASSES)
def test_answers_are_accepted_by_the_class_that_langchain_was_given(name: str):
    source = TYPES[name]
    adapter = TypeAdapter(source)
    for text in random_answers(json_schema(json_schema_of(source)), seed=2, count=10):
        adapter.validate_json(text)
    for made in arguments(source):
        adapter.validate_python(made)


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_accepted_by_the_tool_that_takes_the_class(name: str):
    def take(one, number: int = 1) -> str:
        """Take one."""
        return "taken"

    take.__annotations__["one"] = TYPES[name]
    tool = StructuredTool.from_function(take)
    as_it_stands = StructuredTool.from_function(take, args_schema=tool.get_input_jsonschema())
    for shown in (take, tool, as_it_stands):
        taken = [tool.invoke(made) for made in arguments(shown)]
        assert len(taken) > 2
        assert set(taken) == {"taken"}


@pytest.mark.parametrize("source", [list[int], int, "Cat", None, {}, Uncertain])
def test_what_has_no_json_schema_is_a_typed_error(source: Any):
    for convert in (json_schema_of, openai_tool_of):
        with pytest.raises(errors.InvalidSchemaError, match="pass a pydantic class"):
            convert(source)


@pytest.mark.parametrize(
    "text",
    ['"P1W"', '"P1Y"', '"PT1H5S"', '"PT"', '"P9999999999D"'],
)
def test_durations_that_not_everybody_reads_are_not_written(text: str):
    grammar = json_schema({"type": "string", "format": "duration"})
    assert not allows(grammar, text)
    assert allows(grammar, '"P3DT4H5M6S"')
    assert allows(grammar, '"PT90M"')
