"""Grammar rules in llguidance's Lark dialect for JSON values that fit a schema.

JSON is written like `json.dumps` does, with ", " and ": " and no other white space: Qwen's own form, with the fewest
tokens to choose. Members come in the order of the schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema.documents import Budget, Document, Schema
from langchain_qwen.output.schema.graph import ArrayNode, Graph, ObjectNode, Part
from langchain_qwen.output.schema.lexemes import MOST_KINDS, Lexeme, Lexemes, json_text, literal
from langchain_qwen.output.schema.reading import Reader
from langchain_qwen.output.schema.shapes import Boolean, Null, Number, String

# Separators are always lexemes of their own: of two that begin alike, the lexer would only follow the longer one.
_NEXT, _COLON = literal(", "), literal(": ")
# llguidance follows references between rules by recursion, and a stack that overflows ends the process.
_MAX_DEPTH = 200
_BLOCK = 16  # entries of one rule where each needs a rule for what follows it
_REFERENCES = re.compile(r'"(?:[^"\\]|\\.)*"|/(?:[^/\\]|\\.)*/|\b([nru][0-9]+(?:_more)?)\b')


class Rules:
    """Rules for any number of schemas, for use in one grammar."""

    def __init__(self) -> None:
        self._budget = Budget()
        self._lexemes = Lexemes(self._budget)
        self._rules: dict[str, str] = {}
        self._named: dict[Lexeme, str] = {}
        self._nodes = 0

    @property
    def text(self) -> str:
        """All rules so far."""
        return "\n".join(f"{name}: {body}" for name, body in self._rules.items())

    def add(self, schema: Schema, *more: Schema) -> str:
        """Write the rules for a schema and return the name of the rule for the whole value.

        Args:
            schema: The schema, also what its references refer to.
            more: Further schemas that the value must fit.

        Raises:
            InvalidSchemaError: For a schema that cannot be enforced, that nothing fits, or that is too much work.
        """
        document = Document(schema, self._budget)
        graph = Graph(Reader(document), self._lexemes, tuple(document.number(one) for one in (schema, *more)))
        first = self._nodes
        self._nodes += len(graph.nodes)
        names = [f"n{first + number}" for number in range(len(graph.nodes))]
        for name, parts in zip(names, graph.nodes, strict=True):
            if parts:
                self._rules[name] = " | ".join(self._part(part, names, graph) for part in parts)
        self._check_depth(names[graph.root])
        return names[graph.root]

    def _check_depth(self, root: str) -> None:
        """Follow references as llguidance does."""
        seen = {root}
        path = [_REFERENCES.finditer(self._rules[root])]
        while path:
            name = next((found[1] for found in path[-1] if found[1] and found[1] not in seen), None)
            if name is None:
                path.pop()
                continue
            seen.add(name)
            # The rule of a parameter's name is defined with it.
            path.append(_REFERENCES.finditer(self._rules.get(name) or self._rules[f"{name}::_"]))
            if len(path) > _MAX_DEPTH:
                raise InvalidSchemaError(
                    f"the schema nests too deeply to be enforced: its parts refer to each other over more than "
                    f"{_MAX_DEPTH} steps; make it flatter, or split it"
                )

    def _part(self, part: Part, names: Sequence[str], graph: Graph) -> str:
        match part:
            case Null():
                return literal("null")
            case Boolean():
                return " | ".join(literal(json_text(value)) for value in sorted(part.values))
            case String() | Number():
                return self._lexeme(self._lexemes.of(part))
            case ArrayNode():
                return self._unique_array(part, names, graph) if part.unique else self._array(part, names)
        return self._object(part, names)

    def _lexeme(self, lexeme: Lexeme | None) -> str:
        """The name of a lexeme, defined once."""
        assert lexeme is not None, "the graph keeps no part without values"
        if lexeme not in self._named:
            self._named[lexeme] = self._define(lexeme.body, "T" if lexeme.terminal else "t")
        return self._named[lexeme]

    def _define(self, body: str, kind: str = "r") -> str:
        name = f"{kind}{len(self._rules)}"
        self._budget.spend(2 + len(body) // 50)
        self._rules[name] = body
        return name

    def _object(self, node: ObjectNode, names: Sequence[str]) -> str:
        entries = [(f"{literal(json_text(m.name))} {_COLON} {names[m.value]}", m.required) for m in node.members]
        if node.others and node.most != 0:
            kinds = [f"{self._lexeme(self._lexemes.of(o.name))} {_COLON} {names[o.value]}" for o in node.others]
            other = self._define(" | ".join(kinds))
            more = _repeated(other, max(node.least - 1, 0), None if node.most is None else node.most - 1)
            entries.append((f"{other} {more}", node.least > 0))
        close = literal("}")
        leading = next((i for i, (_, required) in enumerate(entries) if required), len(entries))
        after = [f"{_NEXT} {entry}" if required else f"({_NEXT} {entry})?" for entry, required in entries]
        rest = " ".join([*after[leading + 1 :], close])
        if not leading:
            return f"{literal('{')} {entries[0][0] if entries else ''} {rest}"
        # Any of the leading optional members may be the first one that is written.
        firsts = [f"{entries[leading][0]} {rest}" if leading < len(entries) else close]
        rest = self._define(" ".join([*after[leading : leading + 1], rest]))
        block: list[str] = []
        for i in reversed(range(leading)):
            entry = self._define(entries[i][0])
            firsts.append(" ".join([entry, *block, rest]))
            block.insert(0, f"({_NEXT} {entry})?")
            if len(block) == _BLOCK:
                rest = self._define(" ".join([*block, rest]))
                block = []
        return f"{literal('{')} {self._define(' | '.join(reversed(firsts)))}"

    def _array(self, node: ArrayNode, names: Sequence[str]) -> str:
        least, most = node.least, node.most
        items = [names[item] for item in node.prefix[:most]]
        tail = ""
        if node.rest is not None:
            beyond = None if most is None else most - max(len(items), 1)
            tail = _repeated(names[node.rest], max(least - max(len(items), 1), 0), beyond)
            items = items or [names[node.rest]]
        for i in reversed(range(1, len(items))):
            tail = f"{_NEXT} {items[i]} {tail}"
            tail = f"({self._define(tail)})?" if i >= least else tail
        content = f"{items[0]} {tail}" if items and most != 0 else ""
        return f"{literal('[')} {f'({content})?' if content and least == 0 else content} {literal(']')}"

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
        name = f"u{len(self._rules)}"
        self._rules[f"{name}::_"] = " | ".join(
            f"{kind} {name}_more::set_bit({bit}) %if bit_clear({bit})" for bit, kind in enumerate(kinds)
        )
        self._rules[f"{name}_more::_"] = (
            f"{literal(']')} %if bit_count_ge(_, {node.least}) | {_NEXT} {name}::_ %if bit_count_lt(_, {most})"
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
                    kinds += [self._lexeme(lexeme) for lexeme in self._lexemes.distinct(part)]
                case _:
                    return []
        return [f"({' | '.join(kinds[bit::MOST_KINDS])})" for bit in range(min(MOST_KINDS, len(kinds)))]


def _repeated(item: str, least: int, most: int | None) -> str:
    """Further items, each after a separator."""
    if most is not None and most <= 0:
        return ""
    return f"({_NEXT} {item}){{{least},{'' if most is None else most}}}"
