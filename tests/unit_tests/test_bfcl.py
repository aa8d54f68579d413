"""The matcher of tool calls and the scoring of the contract benchmark, without a model."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bfcl
from benchmarks.common import run_all, share
from benchmarks.contract import invalid

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "geo_find",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "radius": {"type": "number"},
                    "tags": {"type": "array"},
                    "exact": {"type": "boolean"},
                    "where": {"type": "object"},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def wanted(**arguments: list[Any]) -> list[dict[str, Any]]:
    return [{"geo.find": {"city": ["San Jose, CA", "San Jose"], **arguments}}]


def right(arguments: dict[str, Any], **acceptable: list[Any]) -> bool:
    return bfcl.right([("geo_find", {"city": "San Jose", **arguments})], wanted(**acceptable), TOOLS)


@pytest.mark.parametrize("city", ["San Jose", "san jose", "San-Jose", "SAN JOSE, CA.", "san_jose/ca"])
def test_strings_are_compared_without_case_and_punctuation(city: str):
    assert right({"city": city})


def test_other_strings_are_wrong():
    assert not right({"city": "San José"})
    assert not bfcl.right([("geo_find", {"city": 5})], wanted(), TOOLS)


def test_names_are_compared_as_they_are_bound():
    assert bfcl.function_name("geo.find v2-x") == "geo_find_v2-x"
    assert not bfcl.right([("geo.find", {"city": "San Jose"})], wanted(), TOOLS)
    assert not bfcl.right([("now", {"city": "San Jose"})], wanted(), TOOLS)


def test_arguments_that_may_be_left_out():
    assert right({}, days=[3, ""])
    assert right({"days": 3}, days=[3, ""])
    assert not right({"days": 4}, days=[3, ""])
    assert not right({}, days=[3])
    assert not bfcl.right([("geo_find", {})], [{"geo.find": {"city": [""]}}], TOOLS)  # required


def test_arguments_that_are_not_expected_are_wrong():
    assert not right({"days": 3})


def test_an_integer_will_do_for_a_float_but_not_the_other_way_round():
    assert right({"radius": 5}, radius=[5.0])
    assert right({"radius": 5.0}, radius=[5])
    assert not right({"days": 5.0}, days=[5])


def test_truth_is_no_number():
    assert right({"exact": True}, exact=[True])
    assert not right({"exact": 1}, exact=[True])
    assert not right({"days": True}, days=[1])


def test_lists_have_an_order_and_are_compared_in_depth():
    assert right({"tags": ["Open-Hole", "silver"]}, tags=[["open hole", "silver"]])
    assert not right({"tags": ["silver", "open hole"]}, tags=[["open hole", "silver"]])
    assert not right({"tags": ["open hole"]}, tags=[["open hole", "silver"]])
    assert right({"tags": [["a"], [1, 2]]}, tags=[[["A"], [1, 2]]])


def test_members_of_objects_have_acceptable_values_of_their_own():
    acceptable = [{"lat": [37.5, 37], "name": ["x", ""]}]
    assert right({"where": {"lat": 37}}, where=acceptable)
    assert right({"where": {"lat": 37.5, "name": "X"}}, where=acceptable)
    assert not right({"where": {"name": "x"}}, where=acceptable)
    assert not right({"where": {"lat": 37, "other": 1}}, where=acceptable)
    assert right({"tags": [{"lat": 37}]}, tags=[acceptable])


def test_null_is_a_value():
    assert right({"tags": None}, tags=["", None])
    assert not right({"tags": None}, tags=[[]])


def test_parallel_calls_come_in_any_order():
    expected = [{"geo.find": {"city": ["A", "B"]}}, {"geo.find": {"city": ["A"]}}, {"now": {}}]
    calls: list[bfcl.Call] = [("now", {}), ("geo_find", {"city": "A"}), ("geo_find", {"city": "B"})]
    assert bfcl.right(calls, expected, TOOLS)  # a greedy match would give A to the first
    assert not bfcl.right(calls[:2], expected, TOOLS)
    assert not bfcl.right([*calls, ("now", {})], expected, TOOLS)


def test_no_call_is_right_where_none_is_wanted():
    assert bfcl.right([], [], TOOLS)
    assert not bfcl.right([("now", {})], [], TOOLS)


def test_documents_are_validated_by_the_draft_of_their_schema():
    draft_4 = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}
    assert invalid("1", draft_4) is None
    assert invalid("1.0", {"type": "integer"}) is None
    assert invalid("1.0", draft_4) == "1.0 is not of type 'integer'"
    assert "Expecting" in (invalid('{"a"', draft_4) or "")


def test_results_come_in_the_order_of_the_items():
    assert run_all("squares", lambda x: x * x, [3, 1, 2], at_once=2) == [9, 1, 4]
    assert share([True, False, True]) == 0.6667
    assert share([]) is None
