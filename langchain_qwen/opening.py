"""A model's files, found and checked once for a model object rather than for every call."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from langchain_qwen.checkpoints import Checkpoint, resolve
from langchain_qwen.parameters import GenerationParameters
from langchain_qwen.prompting import Prompter, Tokenizer

MOST_HELD = 8
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)

_State = tuple[tuple[int, ...] | None, ...]


class Source(NamedTuple):
    """Arguments of `resolve`: what a model is asked for by.

    `served_as` is the name of one that runs at a server: of that no weights are needed here.
    """

    model: str
    revision: str | None
    cache_dir: str | None
    local_files_only: bool
    served_as: str | None = None


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A checkpoint with what reads and writes its text; no weights.

    Attributes:
        checkpoint: The checkpoint, complete.
        tokenizer: Its tokenizer.
        prompter: Renders, encodes and counts its prompts.
        state: Of the files when they were read.
    """

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    prompter: Prompter
    state: _State

    def with_form(self, parameters: GenerationParameters) -> OpenModel:
        """The same with prompts of the form that the parameters ask for."""
        form = self.prompter.with_form(
            parameters.chat_template_kwargs, continue_final=bool(parameters.continue_final_message)
        )
        return self if form is self.prompter else replace(self, prompter=form)

    @property
    def changed(self) -> bool:
        """Whether the files are no longer those that were read; some stat calls, about 20 microseconds."""
        return _state(self.checkpoint) != self.state


class Opener:
    """What one model object has open, by what it was asked for.

    Copies of the model object share it: they ask by their own fields. Pickles and deep copies start empty, since
    where a model is may be another place there. There is no lock that a fork could leave held: two threads that ask
    at once both open the files, to the same effect.
    """

    def __init__(self) -> None:
        self._held: dict[Source, OpenModel] = {}

    def __reduce__(self) -> tuple[type[Opener], tuple[()]]:
        return Opener, ()

    def open(self, source: Source, *, fresh: bool) -> OpenModel:
        """The model that `source` names.

        Args:
            source: What is asked for.
            fresh: Look whether the files have changed since they were opened, and open them again if so.

        Raises:
            ModelNotFoundError, CheckpointError: See `resolve`.
        """
        held = self._held.get(source)
        if held is None or (fresh and held.changed):
            held = _open(source)
            if len(self._held) >= MOST_HELD:
                self._held.clear()
            self._held[source] = held
        return held


def _open(source: Source) -> OpenModel:
    model, revision, cache_dir, offline, served_as = source
    weights = served_as is None
    checkpoint = resolve(model, revision=revision, cache_dir=cache_dir, local_files_only=offline, weights=weights)
    if served_as is not None:
        checkpoint = replace(checkpoint, name=served_as)
    state = _state(checkpoint)
    tokenizer = tokenizer_of(checkpoint)
    return OpenModel(checkpoint, tokenizer, Prompter.from_folder(checkpoint.path, tokenizer), state)


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """Its tokenizer; one object for all who ask."""
    return Tokenizer.from_folder(checkpoint.path, checkpoint.vocab_size, sorted(checkpoint.eos_token_ids))


def _state(checkpoint: Checkpoint) -> _State:
    return tuple(
        _of_file(file) for file in (*(checkpoint.path / name for name in _SMALL_FILES), *checkpoint.weight_files)
    )


def _of_file(file: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:  # not every checkpoint has every file
        return None
    # Times of modification can be set to anything, as images and archives do; that of the change of the inode cannot.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
