"""Which data set is asked for: the options of the task ``data``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from foresee.core.errors import RequestError
from foresee.datasets.cache import key_of
from foresee.datasets.reading import held_out_split_of, source_of

Boundary = Literal["auto", "symbol", "none"]
Ending = Literal["symbol", "none"]
Kept = Literal["seen", "all"]

CHECKPOINT = "hf:"
TOKENIZERS = ("characters", "bytes", "words")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which data set: the options of the task ``data``, which says what each means."""

    path: str
    prompt: str
    response: str
    tokenizer: str
    test: str | None
    vocabulary: int
    tokens: Kept
    boundary: Boundary
    ending: Ending
    max_prompt: int | None
    max_response: int | None
    skip_bad: bool

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS and not self.tokenizer.startswith(CHECKPOINT):
            raise RequestError(
                f"data: tokenizer={self.tokenizer} must be one of {', '.join(TOKENIZERS)} and hf:CHECKPOINT"
            )
        for name in ("vocabulary", "max_prompt", "max_response"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"data: {name}={value} must be at least 1")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """What the task's options ask for; those that are not about the data set are left out."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})

    @property
    def test_path(self) -> str | None:
        """The file or folder of the test rows, where they are not taken from ``path``."""
        return self.test or held_out_split_of(self.path)

    def digest(self) -> str:
        """16 hexadecimal characters of everything that is read: data files and a checkpoint's tokenizer."""
        read = [source_of(self.path).digest]
        if self.test_path is not None:
            read.append(source_of(self.test_path).digest)
        if self.tokenizer.startswith(CHECKPOINT):
            from foresee.core.checkpoint_files import checkpoint_folder, tokenizer_digest

            read.append(tokenizer_digest(checkpoint_folder(self.tokenizer.removeprefix(CHECKPOINT))))
        return key_of("request", *read)[:16]
