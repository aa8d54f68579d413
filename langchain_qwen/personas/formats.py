"""Forms of answers that a persona can promise: each says what it wants, enforces it, and checks it.

`ChatQwen` generates under the form's grammar, so its answers keep to it by construction. Other models are told,
checked, and asked once more.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import jsonschema  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from langchain_qwen.output.grammars import json_schema as json_grammar
from langchain_qwen.output.schema import literal
from langchain_qwen.personas.sentences import SENTENCE, count_sentences

_BREAKS = r"\x00-\x1F\x7F-\x9F\x{2028}\x{2029}"  # what ends a line anywhere, and other controls
_LINE = rf"/[^\s{_BREAKS}-][^{_BREAKS}]*/"
# Bounded, so that a small model comes to the end of a cell. The space before the next bar belongs to the cell: else the
# lexer could not take " |" as one token.
_CELL = rf"/ [^|\s{_BREAKS}][^|{_BREAKS}]{{0,200}}/"
_DASHES = r"/ ?:?-{3,12}:? ?/"


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def instruction(self) -> str:
        """What the model is told."""
        raise NotImplementedError

    def response_format(self) -> dict[str, Any]:
        """The argument of `ChatQwen` that enforces it."""
        raise NotImplementedError

    def problem(self, text: str) -> str | None:
        """What is wrong with an answer; None when it keeps to the form."""
        raise NotImplementedError


class JsonForm(_Form):
    """One JSON value, of a schema where there is one, else an object."""

    kind: Literal["json"] = "json"
    json_schema: dict[str, Any] | None = None

    @field_validator("json_schema")
    @classmethod
    def _compiles(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            json_grammar(schema)
        return schema

    def instruction(self) -> str:
        """Of the schema ChatQwen speaks itself, after the conversation."""
        return "Answer with JSON only, without any text around it."

    def response_format(self) -> dict[str, Any]:
        """JSON mode, or the schema."""
        if self.json_schema is None:
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": self.json_schema, "strict": True}}

    def problem(self, text: str) -> str | None:
        """No JSON, or not of the schema."""
        try:
            value = json.loads(text, parse_constant=_no_json)
        except ValueError as error:
            return f"it is not JSON: {error}"
        except RecursionError:
            return "it nests too deeply"
        schema = self.json_schema or {"type": "object"}
        validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        first = next(validator(schema).iter_errors(value), None)
        return f"it does not fit the JSON Schema: {first.message}" if first else None


class TableForm(_Form):
    """One Markdown table, with these columns where they are given, else with two to six."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...] | None = None
    max_rows: int = Field(default=20, ge=1, le=200)

    @field_validator("columns")
    @classmethod
    def _one_line_each(cls, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for column in columns or ():
            if not column.strip() or re.search(r"[|\r\n]", column) or column != column.strip():
                raise ValueError(f"column {column!r} must be text of one line without '|' or spaces around it")
        if columns is not None and not columns:
            raise ValueError("a table needs at least one column; leave `columns` out for free ones")
        return columns

    def instruction(self) -> str:
        """Tells the model the columns, if they are given, and how many rows there may be."""
        columns = f" with the columns {', '.join(self.columns)}" if self.columns else ""
        return f"Answer with one Markdown table{columns} and nothing else, at most {self.max_rows} rows."

    def response_format(self) -> dict[str, Any]:
        """A row for each line, with the same number of cells throughout."""
        widths = [len(self.columns)] if self.columns else range(2, 7)
        lines = ["start: " + " | ".join(f"table_{width}" for width in widths), f"CELL: {_CELL}", f"DASHES: {_DASHES}"]
        for width in widths:
            head = literal(f"| {' | '.join(self.columns)} |") if self.columns else f"row_{width}"
            rule = '"|"' + ' DASHES "|"' * width
            lines.append(f'table_{width}: {head} "\\n" {rule} ("\\n" row_{width}){{1,{self.max_rows}}}')
            lines.append(f'row_{width}: "|"' + ' CELL "|"' * width)
        return _grammar(*lines)

    def problem(self, text: str) -> str | None:
        """Lines that are no rows, or rows of different widths."""
        lines = text.strip().splitlines()
        if len(lines) < 3 or not re.fullmatch(r"\|(?: *:?-+:? *\|)+", lines[1].strip()):
            return "it is not a Markdown table with a header, a line of dashes and at least one row"
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
        if any(not line.strip().startswith("|") or not line.strip().endswith("|") for line in lines):
            return "it has text outside the table"
        if len({len(row) for row in rows}) > 1:
            return "its rows have different numbers of cells"
        if self.columns and tuple(rows[0]) != self.columns:
            return f"its columns are not {', '.join(self.columns)}"
        return f"it has more than {self.max_rows} rows" if len(rows) - 2 > self.max_rows else None


class BulletsForm(_Form):
    """Bullet points, one a line, and nothing else."""

    kind: Literal["bullets"] = "bullets"
    at_least: int = Field(default=1, ge=1)
    at_most: int = Field(default=10, le=200)

    @model_validator(mode="after")
    def _some_number_fits(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least={self.at_least} is more than at_most={self.at_most}")
        return self

    def instruction(self) -> str:
        """How many, and how they begin."""
        number = f"{self.at_least} to {self.at_most}" if self.at_least < self.at_most else f"exactly {self.at_most}"
        return f'Answer with {number} bullet points, each on a line of its own that begins with "- ", and nothing else.'

    def response_format(self) -> dict[str, Any]:
        """Lines that begin with a dash."""
        more = f'("\\n- " LINE){{{self.at_least - 1},{self.at_most - 1}}}'
        return _grammar(f'start: "- " LINE {more if self.at_most > 1 else ""}', f"LINE: {_LINE}")

    def problem(self, text: str) -> str | None:
        """Other lines, or too many or few."""
        lines = text.strip().splitlines()
        if other := next((line for line in lines if not re.match(r"- \S", line)), None):
            return f'the line {other[:60]!r} does not begin with "- "'
        if not self.at_least <= len(lines) <= self.at_most:
            return f"it has {len(lines)} bullet points, not {self.at_least} to {self.at_most}"
        return None


class SentencesForm(_Form):
    """At most so many sentences of running text."""

    kind: Literal["sentences"] = "sentences"
    at_most: int = Field(ge=1, le=100)

    def instruction(self) -> str:
        """Tells the model how many sentences there may be."""
        number = "one sentence" if self.at_most == 1 else f"at most {self.at_most} sentences"
        return f"Answer in {number}."

    def response_format(self) -> dict[str, Any]:
        """After the last sentence nothing but the end may follow."""
        more = f"NEXT{{0,{self.at_most - 1}}}" if self.at_most > 1 else ""
        return _grammar(f"start: FIRST {more}", f"FIRST: /{SENTENCE}/", f"NEXT: /[ \\n]?{SENTENCE}/")

    def problem(self, text: str) -> str | None:
        """Whether there are too many sentences, or none."""
        count = count_sentences(text)
        return None if 1 <= count <= self.at_most else f"it has {count} sentences, more than {self.at_most}"


class LabelsForm(_Form):
    """One of a set of labels, to the letter."""

    kind: Literal["labels"] = "labels"
    labels: tuple[str, ...] = Field(min_length=1)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels) or any(not label or label != label.strip() for label in labels):
            raise ValueError("labels must be distinct, not empty, and without white space around them")
        return labels

    def instruction(self) -> str:
        """Tells the model the labels."""
        return f"Answer with exactly one of these labels and nothing else: {', '.join(self.labels)}."

    def response_format(self) -> dict[str, Any]:
        """A grammar of the labels and nothing else."""
        return _grammar("start: " + " | ".join(literal(label) for label in self.labels))

    def problem(self, text: str) -> str | None:
        """Whether the text is no label."""
        return None if text.strip() in self.labels else f"it is none of: {', '.join(self.labels)}"


Form = Annotated[JsonForm | TableForm | BulletsForm | SentencesForm | LabelsForm, Field(discriminator="kind")]


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is no value of JSON")


def _grammar(*lines: str) -> dict[str, Any]:
    return {"type": "grammar", "grammar": "\n".join(lines)}
