"""Names of what a rule can be about: MLCommons' hazards, and what else an application cares for."""

from __future__ import annotations

from enum import Enum


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
