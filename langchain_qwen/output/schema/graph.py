"""The kinds of value inside a value, as a graph: which can exist, and of what they are made.

Shapes become nodes whose children are other nodes. A node that no finite value fits (contradictions, or a recursion
that never ends) is not productive and gets pruned, so a grammar never leads to where it cannot be completed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from langchain_qwen.errors import InvalidSchemaError
from langchain_qwen.output.schema.documents import FALSE, All
from langchain_qwen.output.schema.lexemes import MAX_LEAST_LENGTH, MAX_LENGTH, Lexemes
from langchain_qwen.output.schema.reading import Reader
from langchain_qwen.output.schema.shapes import ANY, Array, Boolean, Null, Number, Object, Shape, String, cost

_MAX_COMBINATIONS = 64
_MAX_OPTIONAL = 600  # members of which any may come next; llguidance's parser has a limit too


@dataclass(frozen=True, slots=True)
class Member:
    """A named member of an object; `value` is a node."""

    name: str
    value: int
    required: bool


@dataclass(frozen=True, slots=True)
class Others:
    """Members with names that a string lexeme describes."""

    name: String
    value: int


@dataclass(frozen=True, slots=True)
class ObjectNode:
    """Members in this order, then `least` to `most` others."""

    members: tuple[Member, ...]
    others: tuple[Others, ...] = ()
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """Items with nodes of their own, then more of one kind; `most` counts all."""

    prefix: tuple[int, ...]
    rest: int | None
    least: int
    most: int | None
    unique: bool


Part = Null | Boolean | Number | String | ArrayNode | ObjectNode


class Graph:
    """All nodes that a schema needs; `nodes[i]` lists the alternatives of node i."""

    def __init__(self, reader: Reader, lexemes: Lexemes, schemas: All):
        self._reader, self._lexemes = reader, lexemes
        self._spend = reader.document.budget.spend
        self._numbers: dict[All, int] = {}
        self._waiting: list[All] = []
        self.nodes: list[list[Part]] = []
        self.root = self._node(schemas)
        while self._waiting:
            self.nodes.append(list(self._parts(self._waiting.pop(0))))
        self._prune()

    def _node(self, schemas: All) -> int:
        if schemas not in self._numbers:
            self._spend(40)
            self._numbers[schemas] = len(self._numbers)
            self._waiting.append(schemas)
        return self._numbers[schemas]

    def _parts(self, schemas: All) -> Iterator[Part]:
        for shape in _meant(self._reader.alternatives(schemas)):
            self._spend(cost(shape))
            if isinstance(shape, Array):
                yield self._array(shape)
            elif isinstance(shape, Object):
                yield from self._objects(shape)
            else:
                yield shape

    def _array(self, shape: Array) -> ArrayNode:
        rest, most = shape.rest, None if shape.max_items is None else min(shape.max_items, MAX_LENGTH)
        if shape.min_items > MAX_LEAST_LENGTH:
            raise InvalidSchemaError(f"minItems {shape.min_items:,} is too much to be enforced; lower it")
        if rest is None and shape.prefix and shape.min_items <= len(shape.prefix):
            rest = (FALSE,)  # a tuple has no more items than it names, unless the schema says so
        prefix = tuple(self._node(item) for item in shape.prefix[:most])
        more = None if rest is not None and FALSE in rest else self._node(rest or ())
        return ArrayNode(prefix, more, shape.min_items, most, shape.unique)

    def _objects(self, shape: Object) -> Iterator[ObjectNode]:
        allowed_names = [name for name in self._reader.alternatives(shape.names) if isinstance(name, String)]
        declared = {name: shape.property(name) for name in (*shape.properties, *shape.required)}
        # Who lists properties wants these; others only where the schema says so.
        closed = shape.rest is None and (shape.declared or shape.required or shape.patterns)
        rest = (FALSE,) if closed else shape.rest or ()
        listed = [n for names in allowed_names for n in names.values or ()]
        if all(names.values is not None for names in allowed_names):  # only these names may occur at all
            for name in listed:
                if name not in declared:
                    declared[name] = replace(shape, rest=rest).property(name)
        members = [
            Member(name, self._node(value), name in shape.required)
            for name, value in declared.items()
            if FALSE not in value and any(names.accepts(name) for names in allowed_names)
        ]
        required = sum(member.required for member in members)
        if required < len(shape.required):
            return
        if len(members) - required > _MAX_OPTIONAL:
            raise InvalidSchemaError(
                f"an object with {len(members) - required} optional properties cannot be enforced, but with "
                f"{_MAX_OPTIONAL}; make more of them required, or group them in objects of their own"
            )
        others = [
            Others(name, self._node(value))
            for names in allowed_names
            if names.values is None
            for name, value in _others(shape, rest, names, tuple(declared))
        ]
        for node in _counted(members, others, shape.min_properties, shape.max_properties):
            self._spend(5 + 5 * len(members))
            yield node

    def _prune(self) -> None:
        """Keep what a finite value can have: the least fixed point, from the leaves up."""
        productive: set[int] = set()
        grown = True
        while grown:
            grown = False
            # Children mostly have higher numbers.
            for number in reversed(range(len(self.nodes))):
                if number not in productive and any(self._productive(part, productive) for part in self.nodes[number]):
                    productive.add(number)
                    grown = True
        self.nodes = [
            [self._pruned(part, productive) for part in parts if self._productive(part, productive)]
            for parts in self.nodes
        ]
        if self.root not in productive:
            raise InvalidSchemaError(
                "no value can satisfy the schema: it contradicts itself, or combines oneOf, not or if in a way that "
                "no grammar can follow; look for an empty enum, bounds that cross, and required properties that are "
                "forbidden"
            )

    def _productive(self, part: Part, nodes: set[int]) -> bool:
        self._spend(1)
        match part:
            case String() | Number():
                return self._lexemes.of(part) is not None
            case ArrayNode():
                if part.most is not None and part.least > part.most:
                    return False
                beyond = part.least > len(part.prefix)
                return all(node in nodes for node in part.prefix[: part.least]) and (not beyond or part.rest in nodes)
            case ObjectNode():
                self._spend(len(part.members) // 4)
                others = any(self._usable(other, nodes) for other in part.others)
                return all(m.value in nodes for m in part.members if m.required) and (others or not part.least)
        return True

    def _usable(self, other: Others, nodes: set[int]) -> bool:
        return other.value in nodes and self._lexemes.of(other.name) is not None

    def _pruned(self, part: Part, nodes: set[int]) -> Part:
        if isinstance(part, ArrayNode):
            usable = next((i for i, node in enumerate(part.prefix) if node not in nodes), len(part.prefix))
            rest = part.rest if usable == len(part.prefix) and part.rest in nodes else None
            return replace(part, prefix=part.prefix[:usable], rest=rest)
        if isinstance(part, ObjectNode):
            members = tuple(member for member in part.members if member.value in nodes)
            return replace(part, members=members, others=tuple(o for o in part.others if self._usable(o, nodes)))
        return part


def _meant(shapes: Sequence[Shape]) -> list[Shape]:
    """Drop what adds nothing, and guess the type where the schema leaves it open.

    By the letter, `{"properties": {...}}` allows any string, number or array as well; who writes it means an object.
    """
    plain = {type(shape) for shape in shapes if shape in ANY}
    distinct = [shape for shape in shapes if shape in ANY or type(shape) not in plain]
    hinted = [shape for shape in distinct if shape not in ANY]
    untyped = {type(shape) for shape in distinct} == {type(shape) for shape in ANY}
    return hinted if hinted and untyped else distinct


def _others(shape: Object, rest: All, names: String, declared: tuple[str, ...]) -> Iterator[tuple[String, All]]:
    """Kinds of further members: one for each pattern, and one for what matches none."""
    for pattern, value in shape.patterns.items():
        foreign = tuple(other for other in shape.patterns if other != pattern)
        if FALSE not in value:
            yield _named(names, declared, required=(pattern,), forbidden=foreign), value
    if FALSE not in rest:
        yield _named(names, declared, forbidden=tuple(shape.patterns)), rest


def _named(
    names: String, declared: tuple[str, ...], *, required: tuple[str, ...] = (), forbidden: tuple[str, ...] = ()
) -> String:
    return replace(
        names,
        patterns=(*names.patterns, *required),
        forbidden_patterns=(*names.forbidden_patterns, *forbidden),
        excluded=(*names.excluded, *declared),
    )


def _counted(members: list[Member], others: list[Others], least: int, most: int | None) -> Iterator[ObjectNode]:
    """Objects with as many members as minProperties and maxProperties allow.

    Where named members are optional, the choices among them are spelt out, up to a number.
    """
    if most is not None and least > most:
        return
    required = sum(member.required for member in members)
    optional = [member for member in members if not member.required]
    if most is not None:
        room = most - required
        if room < 0:
            return
        if optional and len(optional) + (1 if others else 0) > room:
            for kept in islice(combinations(optional, min(room, len(optional))), _MAX_COMBINATIONS):
                some = [member for member in members if member.required or member in kept]
                yield from _counted(some, [], least, None)
            return
        most = room - len(optional) if others else None
    missing = least - required
    if missing <= 0:
        yield ObjectNode(tuple(members), tuple(others), 0, most)
    elif len(optional) >= missing:
        for kept in islice(combinations(optional, missing), _MAX_COMBINATIONS):
            yield ObjectNode(
                tuple(replace(member, required=member.required or member in kept) for member in members),
                tuple(others),
                0,
                most,
            )
    elif others and len(optional) == missing - 1:
        yield ObjectNode(tuple(replace(member, required=True) for member in members), tuple(others), 1, most)
    elif others:
        raise InvalidSchemaError(
            f"minProperties {least} cannot be enforced: a grammar cannot tell that names differ; name the properties "
            "that must be there in `required`, or ask for at least one"
        )
