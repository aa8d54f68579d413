"""A policy made ready: what `SafetyParser`, `InputGuard` and guarded models share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from langchain_qwen.rebuilt import Rebuilt
from langchain_qwen.safety.audit import Audit
from langchain_qwen.safety.detectors import build_detectors
from langchain_qwen.safety.filtering import RuleDetectors, TextFilter
from langchain_qwen.safety.judging import make_judge
from langchain_qwen.safety.messages import AnswerFilter
from langchain_qwen.safety.policy import JudgeSpec, Policy
from langchain_qwen.safety.pseudonyms import Pseudonyms
from langchain_qwen.safety.scanning import Detector, Find


class CompiledPolicy(Rebuilt):
    """The rules of a policy with their detectors, its audit, and filters for texts and answers; see `SafetyParser`."""

    def __init__(
        self,
        policy: Policy | str | Path = "balanced",
        *,
        judge: BaseChatModel | None = None,
        system_prompt: str | None = None,
        canary: str | None = None,
        detectors: Mapping[str, Detector | Find] | None = None,
        language: str = "en",
        as_json: bool = False,
        hash_key: SecretStr | bytes | None = None,
    ):
        self.policy = policy if isinstance(policy, Policy) else Policy.load(policy)
        self.audit = Audit(self.policy)
        self.language = language
        self.as_json = as_json
        self._pseudonyms = Pseudonyms(hash_key)
        self._judge = make_judge(judge) if judge else None
        self._known: dict[str, Any] = {"system_prompt": system_prompt, "canary": canary, "custom": detectors}
        self.output_rules = self._rules("output")
        self.input_rules = self._rules("input")
        self.system_rules = self._rules("system")

    def __repr__(self) -> str:
        rules = len({rule.id for rule, _ in (*self.output_rules, *self.input_rules, *self.system_rules)})
        judge = ", judge=..." if self._judge else ""
        return f"{type(self).__name__}({self.policy.name!r}: {rules} rules{judge})"

    def _rules(self, side: str) -> RuleDetectors:
        return [
            (rule, build_detectors(rule, judge=self._judge, **self._known))
            for rule in self.policy.rules
            if side in rule.applies_to and (self._judge or not isinstance(rule.detector, JudgeSpec))
        ]

    @property
    def judges_outputs(self) -> bool:
        """Whether filtering an answer may ask a model."""
        return any(isinstance(rule.detector, JudgeSpec) for rule, _ in self.output_rules)

    def new_filter(self, as_json: bool = False) -> TextFilter:
        """A filter for one text of the output side."""
        return TextFilter(self.output_rules, as_json=as_json, pseudonyms=self._pseudonyms)

    def new_input_filter(self, rules: RuleDetectors, *, as_json: bool = False) -> TextFilter:
        """A filter for one text of the input side."""
        return TextFilter(rules, as_json=as_json, pseudonyms=self._pseudonyms)

    def new_answer(self, *, as_json: bool | None = None) -> AnswerFilter:
        """A filter for one answer."""
        as_json = self.as_json if as_json is None else as_json
        return AnswerFilter(self.new_filter, self.policy, self.audit, as_json=as_json, language=self.language)
