"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from langchain_qwen.cli import model as models
from langchain_qwen.cli.app import app
from tests.unit_tests.cli.scripted import ScriptedModel, scripted

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run the command line in this process; standard input is a pipe."""
    return lambda *arguments, **options: CliRunner().invoke(app, [str(a) for a in arguments], **options)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedModel]:
    """Let the commands answer by a script; `options` of the model are those the command passed."""

    def install(*answers: Any, **fields: Any) -> ScriptedModel:
        model = scripted(*answers, **fields)

        def make(options: models.ModelOptions, **_: Any) -> ScriptedModel:
            model.metadata = {"options": options}
            return model

        monkeypatch.setattr(models, "make_model", make)
        return model

    return install
