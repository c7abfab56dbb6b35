"""Which data set is asked for: the options of the task ``data``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from foresee.core.checkpoint_files import checkpoint_folder, tokenizer_digest
from foresee.core.errors import RequestError
from foresee.datasets.cache import key_of
from foresee.datasets.fields import FIELD, Fields, check_template
from foresee.datasets.sources import digest_of, field_names, find_files

CHECKPOINT = "hf:"
TOKENIZERS = ("characters", "bytes", "words")
RESPONSE = "response"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which data set, and how it becomes tokens; the task ``data`` says what each option means."""

    path: str
    prompt: str = "prompt"
    answer: str = "answer"
    tokenizer: str = "characters"
    test_file: str | None = None
    vocabulary: int = 50_000
    tokens: Literal["seen", "all"] = "seen"
    boundary: Literal["auto", "symbol", "none"] = "auto"
    ending: Literal["symbol", "none"] = "symbol"
    max_prompt: int | None = None
    max_answer: int | None = None
    skip_bad: bool = False
    template: str | None = None
    turns: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        if self.template is not None:
            check_template(self.template)
        if self.tokenizer not in TOKENIZERS and not self.checkpoint:
            known = ", ".join(TOKENIZERS)
            raise RequestError(f"data: tokenizer={self.tokenizer} must be one of {known} and hf:CHECKPOINT")
        for name in ("vocabulary", "max_prompt", "max_answer"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"data: {name}={value} must be at least 1")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Takes of a task's options those that are about the data set."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})

    @cached_property
    def fields(self) -> Fields:
        """What of a row is its prompt and its answer: ``response`` where none is named and there is no ``answer``."""
        names = field_names(self.files()[0][0]) if self.answer == Request.answer else []
        answer = RESPONSE if RESPONSE in names and self.answer not in names else self.answer
        if answer in (re.findall(FIELD, self.template) if self.template else [self.prompt]):
            prompt = f"template={self.template}" if self.template else "prompt"
            raise RequestError(f"data: {prompt} and answer={answer} name the same field; name two fields")
        return Fields(self.prompt, answer, self.template, self.turns)

    @property
    def checkpoint(self) -> str | None:
        """The folder or hub id of the checkpoint whose tokenizer is asked for, if any."""
        return self.tokenizer.removeprefix(CHECKPOINT) if self.tokenizer.startswith(CHECKPOINT) else None

    def files(self) -> tuple[list[Path], list[Path]]:
        """Finds the files of the rows, and those of the test rows where they have their own."""
        train, test = find_files(self.path)
        return train, test if self.test_file is None else find_files(self.test_file)[0]

    def digest(self) -> str:
        """16 hexadecimal characters of everything that is read: data files and a checkpoint's tokenizer."""
        read = digest_each(*self.files())
        if self.checkpoint:
            read.append(tokenizer_digest(checkpoint_folder(self.checkpoint)))
        return key_of("request", *read)[:16]


def digest_each(*parts: Sequence[Path]) -> list[str]:
    """``digest_of`` of the training files, and of the test files where there are any."""
    return [digest_of(files) for files in parts if files]
