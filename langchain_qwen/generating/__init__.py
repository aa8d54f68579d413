"""One call of a chat model: its arguments are read, its passes prepared, and run one after the other."""
