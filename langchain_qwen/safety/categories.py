"""Names of what a rule can be about: MLCommons' hazards, and what else an application cares for."""

from __future__ import annotations

from enum import Enum


class Category(str, Enum):
    """MLCommons' hazard taxonomy (S1 to S14), then categories of this package."""

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

    @property
    def mlcommons(self) -> str | None:
        """The code of MLCommons' taxonomy, None outside it."""
        place = list(Category).index(self) + 1
        return f"S{place}" if place <= 14 else None

    @property
    def openai(self) -> tuple[str, ...]:
        """The nearest categories of OpenAI's moderation; none where it has no such thing."""
        return _OPENAI.get(self, ())


HAZARDS = tuple(category for category in Category if category.mlcommons)

_OPENAI = {
    Category.VIOLENT_CRIMES: ("violence", "illicit/violent"),
    Category.NON_VIOLENT_CRIMES: ("illicit",),
    Category.SEX_CRIMES: ("sexual", "illicit"),
    Category.CHILD_EXPLOITATION: ("sexual/minors",),
    Category.INDISCRIMINATE_WEAPONS: ("illicit/violent",),
    Category.HATE: ("hate", "hate/threatening", "harassment"),
    Category.SELF_HARM: ("self-harm", "self-harm/intent", "self-harm/instructions"),
    Category.SEXUAL_CONTENT: ("sexual",),
    Category.CODE_ABUSE: ("illicit",),
    Category.PROFANITY: ("harassment",),
}
