"""Grammar rules in llguidance's Lark dialect for JSON values that fit a schema.

JSON is written like `json.dumps` does, with ", " and ": " and no other white space: Qwen's own form, with the fewest
tokens to choose. Members come in the order of the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema import lexemes
from langchain_qwen.output.schema.graph import ArrayNode, Graph, ObjectNode, Part
from langchain_qwen.output.schema.lexemes import Lexeme, json_text, literal
from langchain_qwen.output.schema.reading import Reader
from langchain_qwen.output.schema.shapes import Boolean, Null, Number, Schema, String

_BITS = 63  # of a rule's parameter, all of which can be counted
# Separators are always lexemes of their own: of two that begin alike, the lexer would only follow the longer one.
_NEXT, _COLON = literal(", "), literal(": ")


class Rules:
    """Rules for any number of schemas, for use in one grammar."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._lexemes: dict[Lexeme, str] = {}
        self._nodes = 0

    @property
    def text(self) -> str:
        """All rules so far."""
        return "\n".join(self._lines)

    def add(self, schema: Schema, *more: Schema) -> str:
        """Write the rules for a schema and return the name of the rule for the whole value.

        Args:
            schema: The schema, also what its references refer to.
            more: Further schemas that the value must fit.

        Raises:
            InvalidSchemaError: For a schema that cannot be enforced, or that nothing fits.
        """
        try:
            graph = Graph(Reader(schema), (schema, *more))
        except RecursionError as error:  # what branches of oneOf exclude may refer to them again, without end
            raise InvalidSchemaError(
                "the schema nests too deeply to be enforced; where branches of oneOf refer to the schema that they "
                "stand in, use anyOf instead"
            ) from error
        first = self._nodes
        self._nodes += len(graph.nodes)
        names = [f"n{first + number}" for number in range(len(graph.nodes))]
        for name, parts in zip(names, graph.nodes, strict=True):
            if parts:
                self._lines.append(f"{name}: {' | '.join(self._part(part, names, graph) for part in parts)}")
        return names[graph.root]

    def _part(self, part: Part, names: Sequence[str], graph: Graph) -> str:
        match part:
            case Null():
                return literal("null")
            case Boolean():
                return " | ".join(literal(json_text(value)) for value in sorted(part.values))
            case String():
                return self._lexeme(lexemes.string(part))
            case Number():
                return self._lexeme(lexemes.number(part))
            case ArrayNode():
                return self._unique_array(part, names, graph) if part.unique else self._array(part, names)
        return self._object(part, names)

    def _lexeme(self, lexeme: Lexeme | None) -> str:
        """The name of a lexeme, defined once."""
        assert lexeme is not None, "the graph keeps no part without values"
        if lexeme not in self._lexemes:
            self._lexemes[lexeme] = self._define(lexeme.body, "T" if lexeme.terminal else "t")
        return self._lexemes[lexeme]

    def _define(self, body: str, kind: str = "r") -> str:
        name = f"{kind}{len(self._lines)}"
        self._lines.append(f"{name}: {body}")
        return name

    def _object(self, node: ObjectNode, names: Sequence[str]) -> str:
        entries = [(f"{literal(json_text(m.name))} {_COLON} {names[m.value]}", m.required) for m in node.members]
        if node.others and node.most != 0:
            kinds = [f"{self._lexeme(lexemes.string(o.name))} {_COLON} {names[o.value]}" for o in node.others]
            other = self._define(" | ".join(kinds))
            more = _repeated(other, max(node.least - 1, 0), None if node.most is None else node.most - 1)
            entries.append((f"{other} {more}", node.least > 0))
        leading = next((i for i, (_, required) in enumerate(entries) if required), len(entries))
        # What may follow when a member has been written, and when none has.
        after = first = literal("}")
        for i, (entry, required) in reversed(list(enumerate(entries))):
            if required:
                first = f"{entry} {after}"
                after = f"{_NEXT} {entry} {after}"
                continue
            after = self._define(after)
            if i < leading:
                first = self._define(f"{entry} {after} | {first}")
            after = f"({_NEXT} {entry})? {after}"
        return f"{literal('{')} {first}"

    def _array(self, node: ArrayNode, names: Sequence[str]) -> str:
        least, most = node.least, node.most
        items = [names[item] for item in node.prefix[:most]]
        tail = ""
        if node.rest is not None:
            beyond = None if most is None else most - max(len(items), 1)
            tail = _repeated(names[node.rest], max(least - max(len(items), 1), 0), beyond)
            items = items or [names[node.rest]]
        for i in reversed(range(1, len(items))):
            tail = _optional(f"{_NEXT} {items[i]} {tail}", i >= least)
        content = _optional(f"{items[0]} {tail}", least == 0) if items and most != 0 else ""
        return f"{literal('[')} {content} {literal(']')}"

    def _unique_array(self, node: ArrayNode, names: Sequence[str], graph: Graph) -> str:
        """An array without repetitions: at most one item of each of up to 63 kinds, where no value is of two kinds.

        A bit of the parameter of the rules stands for each kind that is taken. Items that cannot be told apart like
        this (arrays and objects) make for arrays of one item.
        """
        kinds = [] if node.prefix or node.rest is None else self._kinds(graph.nodes[node.rest])
        if not kinds:
            if node.least > 1:
                raise InvalidSchemaError(
                    f"uniqueItems with minItems {node.least} cannot be enforced for arrays of arrays or objects; "
                    "leave uniqueItems out, and remove repetitions afterwards"
                )
            return self._array(replace(node, most=1 if node.most is None else min(1, node.most)), names)
        if node.least > len(kinds):
            raise InvalidSchemaError(
                f"uniqueItems with minItems {node.least} cannot be enforced: only {len(kinds)} items can be told apart "
                "for sure; lower minItems, or leave uniqueItems out"
            )
        most = len(kinds) if node.most is None else min(node.most, len(kinds))
        name = f"u{len(self._lines)}"
        taken = [f"{kind} {name}_more::set_bit({bit}) %if bit_clear({bit})" for bit, kind in enumerate(kinds)]
        self._lines.append(f"{name}::_: {' | '.join(taken)}")
        self._lines.append(
            f"{name}_more::_: {literal(']')} %if bit_count_ge(_, {node.least}) "
            f"| {_NEXT} {name}::_ %if bit_count_lt(_, {most})"
        )
        empty = f"{literal('[')} {literal(']')} | " if node.least == 0 else ""
        return f"{empty}{literal('[')} {name}::0x0" if most else f"{literal('[')} {literal(']')}"

    def _kinds(self, parts: Sequence[Part]) -> list[str]:
        """Up to 63 alternatives that share no value; none where that cannot be had."""
        kinds: list[str] = []
        for part in parts:
            match part:
                case Null():
                    kinds.append(literal("null"))
                case Boolean():
                    kinds += [literal(json_text(value)) for value in part.values]
                case String() | Number() if sum(type(other) is type(part) for other in parts) == 1:
                    kinds += [self._lexeme(lexeme) for lexeme in lexemes.distinct(part)]
                case _:
                    return []
        return [f"({' | '.join(kinds[bit::_BITS])})" for bit in range(min(_BITS, len(kinds)))]


def _repeated(item: str, least: int, most: int | None) -> str:
    """Further items, each after a separator."""
    if most is not None and most <= 0:
        return ""
    return f"({_NEXT} {item}){{{least},{'' if most is None else most}}}"


def _optional(text: str, optional: bool) -> str:
    return f"({text})?" if optional else text
