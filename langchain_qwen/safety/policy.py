"""Policies: what to look for, how bad it is, and what to do, as data that an application owns."""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from langchain_qwen.errors import PolicyError

SHIPPED = ("strict", "balanced", "permissive")


class Category(str, Enum):
    """MLCommons' hazard taxonomy (S1 to S14, in its order), then categories of this package."""

    VIOLENT_CRIMES = "violent_crimes"
    NON_VIOLENT_CRIMES = "non_violent_crimes"
    SEX_CRIMES = "sex_crimes"
    CHILD_EXPLOITATION = "child_exploitation"
    DEFAMATION = "defamation"
    SPECIALIZED_ADVICE = "specialized_advice"
    PRIVACY = "privacy"
    INTELLECTUAL_PROPERTY = "intellectual_property"
    INDISCRIMINATE_WEAPONS = "indiscriminate_weapons"
    HATE = "hate"
    SELF_HARM = "self_harm"
    SEXUAL_CONTENT = "sexual_content"
    ELECTIONS = "elections"
    CODE_ABUSE = "code_abuse"
    PII = "pii"
    SECRETS = "secrets"
    PROMPT_LEAKAGE = "prompt_leakage"
    INJECTION = "injection"
    PROFANITY = "profanity"
    OFF_TOPIC = "off_topic"


class Action(str, Enum):
    """What is done with a finding, the strongest last."""

    ALLOW = "allow"
    FLAG = "flag"
    HASH = "hash"
    MASK = "mask"
    REDACT = "redact"
    REWRITE = "rewrite"
    STOP = "stop"
    BLOCK = "block"

    @property
    def strength(self) -> int:
        """Its place in the order."""
        return list(Action).index(self)


class Severity(str, Enum):
    """How bad a finding is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place in the order."""
        return list(Severity).index(self)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PatternSpec(_Data):
    """A pattern of the user's, matched in linear time."""

    pattern: str
    whole_words: bool = True


class LexiconSpec(_Data):
    """Words and phrases, or the name of a shipped list of them."""

    lexicon: str | tuple[str, ...]


class JudgeSpec(_Data):
    """A question to a model: does this text fall under a category? Asked where a cheap detector is unsure."""

    judge: tuple[Category, ...] = Field(min_length=1)
    unsure_at: str | tuple[str, ...] | None = None
    """A lexicon: only sentences with one of its words are judged. None judges the whole text (for inputs)."""


class Rule(_Data):
    """Category, detector, severity, action."""

    id: str
    category: Category
    detector: PatternSpec | LexiconSpec | JudgeSpec | str
    severity: Severity = Severity.MEDIUM
    action: Action
    replacement: str | None = None
    applies_to: tuple[Literal["input", "output", "system"], ...] = ("output",)
    """Output: what the model says. Input: what users, documents, tools and earlier answers bring in. System: the system
    messages, which are the application's own."""

    @model_validator(mode="after")
    def _rewrite_has_a_text(self) -> Self:
        if self.action is Action.REWRITE and self.replacement is None:
            raise ValueError(f"rule {self.id!r}: the action rewrite needs a `replacement`")
        if isinstance(self.detector, JudgeSpec) and self.detector.unsure_at is None and "output" in self.applies_to:
            raise ValueError(f"rule {self.id!r}: a judge of outputs needs `unsure_at`, or nothing could be streamed")
        return self


class Policy(_Data):
    """Rules, and the texts that go with them."""

    name: str
    version: str
    description: str = ""
    limits: str = ""
    """What this policy does not do."""
    refusal: dict[str, str]
    """What is said in place of a blocked answer, by language."""
    instructions: dict[str, str] = {}
    """What the model itself is told, by language."""
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [rule.id for rule in self.rules]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"rule ids must differ; twice there: {', '.join(twice)}")
        if "en" not in self.refusal:
            raise ValueError("`refusal` needs an English text (en), which other languages fall back to")
        return self

    @property
    def hash(self) -> str:
        """Changes with anything in the policy; in every audit event."""
        data = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(data.encode()).hexdigest()[:16]

    def system_instructions(self, language: str = "en") -> str:
        """What to put into the system prompt, in this language or in English."""
        return self.instructions.get(language, self.instructions.get("en", ""))

    def refusal_text(self, language: str = "en") -> str:
        """What is said in place of a blocked answer."""
        return self.refusal.get(language, self.refusal["en"])

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Policy:
        """A policy of plain data.

        Raises:
            PolicyError: That names the field and what is wrong with it.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:4])
            raise PolicyError(f"the policy is not valid: {wrong}") from error

    @classmethod
    def load(cls, source: str | Path) -> Policy:
        """A shipped policy by name ("strict", "balanced", "permissive"), or one of a YAML file.

        Raises:
            PolicyError: For a file that cannot be read or does not hold a policy.
        """
        try:
            if source in SHIPPED:
                text = resources.files("langchain_qwen.safety").joinpath(f"policies/{source}.yaml").read_text("utf-8")
            else:
                text = Path(source).read_text(encoding="utf-8")
            data = yaml.safe_load(text)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # also dates that are none, and nesting
            raise PolicyError(f"cannot read {source}: {error}. Shipped are: {', '.join(SHIPPED)}") from error
        if not isinstance(data, dict):
            raise PolicyError(f"{source} holds no mapping of fields; a policy has name, version, refusal and rules")
        return cls.parse(data)
