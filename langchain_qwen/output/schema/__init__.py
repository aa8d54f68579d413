"""JSON Schemas as grammars: everything that a grammar allows fits the schema.

The way of a schema: reading.py finds alternative shapes (with documents.py for references, keywords.py for one type,
negation.py for `not`) -> graph.py finds which kinds of value exist -> rules.py writes Lark rules (with lexemes.py,
numbers.py and patterns.py for scalars).
"""

from langchain_qwen.output.schema.lexemes import json_text, literal
from langchain_qwen.output.schema.patterns import verbatim
from langchain_qwen.output.schema.rules import Rules

__all__ = ["Rules", "json_text", "literal", "verbatim"]
