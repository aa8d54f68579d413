"""JSON Schemas as grammars: everything that a grammar allows fits the schema.

The way of a schema: documents.py (form, references) -> reading.py (keywords to alternative shapes; negation.py for `not`)
-> graph.py (which kinds of value exist) -> rules.py (Lark rules), with lexemes.py for strings and numbers.
"""

from langchain_qwen.output.schema.lexemes import json_text, literal
from langchain_qwen.output.schema.rules import Rules

__all__ = ["Rules", "json_text", "literal"]
