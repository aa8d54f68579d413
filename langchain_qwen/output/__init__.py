"""Token ids to what the caller sees: text, tool calls, message chunks; and the grammars that they follow."""
