"""Who the model is, how it answers, and in which language."""

from langchain_qwen.personas.chain import PersonaChain
from langchain_qwen.personas.checking import Checks, holds
from langchain_qwen.personas.detection import Detection, detect
from langchain_qwen.personas.formats import BulletsForm, Form, JsonForm, LabelsForm, SentencesForm, TableForm
from langchain_qwen.personas.languages import Language, WeakLanguageWarning, language_of, languages
from langchain_qwen.personas.persona import Persona, builtin, builtins, load_persona, load_personas
from langchain_qwen.personas.spec import Example

__all__ = [
    "BulletsForm",
    "Checks",
    "Detection",
    "Example",
    "Form",
    "JsonForm",
    "LabelsForm",
    "Language",
    "Persona",
    "PersonaChain",
    "SentencesForm",
    "TableForm",
    "WeakLanguageWarning",
    "builtin",
    "builtins",
    "detect",
    "holds",
    "language_of",
    "languages",
    "load_persona",
    "load_personas",
]
