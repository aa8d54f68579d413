"""Messages to roles to the checkpoint's chat template to ids, with exact counts of what is sent."""

from langchain_qwen.prompting.conversation import check_conversation
from langchain_qwen.prompting.prompter import Prompter
from langchain_qwen.prompting.roles import to_roles
from langchain_qwen.prompting.tokenizer import Tokenizer

__all__ = ["Prompter", "Tokenizer", "check_conversation", "to_roles"]
