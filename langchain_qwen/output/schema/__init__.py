"""JSON Schemas as grammars: everything that a grammar allows fits the schema.

The way of a schema: documents.py numbers its parts and finds references -> reading.py finds alternative shapes (with
keywords.py for one type) -> graph.py finds which kinds of value exist -> rules.py writes Lark rules (with lexemes.py,
formats.py, numbers.py and patterns.py for scalars). What all of it may cost is bounded, whoever wrote the schema.

llguidance compiles JSON Schemas itself (`%json`), and strings with patterns are left to it. The rest is not: there,
numbers have endless digits, bounds are floats, objects are open where only the listed properties are meant,
`uniqueItems` (pydantic's `set`) is unknown, and formats allow what pydantic refuses.
"""

from langchain_qwen.output.schema.documents import check_levels
from langchain_qwen.output.schema.lexemes import json_text, literal
from langchain_qwen.output.schema.patterns import verbatim
from langchain_qwen.output.schema.rules import Rules

__all__ = ["Rules", "check_levels", "json_text", "literal", "verbatim"]
