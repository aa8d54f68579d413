"""Who the model is, how it answers, and in which language."""

from langchain_qwen.personas.formats import BulletsForm, JsonForm, LabelsForm, SentencesForm, TableForm
from langchain_qwen.personas.languages import WeakLanguageWarning
from langchain_qwen.personas.persona import Persona, builtin, builtins, load_persona, load_personas
from langchain_qwen.personas.spec import Example

__all__ = [
    "BulletsForm",
    "Example",
    "JsonForm",
    "LabelsForm",
    "Persona",
    "SentencesForm",
    "TableForm",
    "WeakLanguageWarning",
    "builtin",
    "builtins",
    "load_persona",
    "load_personas",
]
