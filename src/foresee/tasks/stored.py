"""Tasks whose examples are a user's, kept on disk, and not drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.tasks.base import Task


class StoredRows(ABC):
    """Rows of a file by number, read from disk as they are asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def __getitem__(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and answer."""

    @abstractmethod
    def lengths(self, rows: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        """[n] numbers of rows -> [n, 2] tokens of their prompts and answers."""

    @abstractmethod
    def batch(self, rows: NDArray[numpy.int64] | Sequence[int]) -> Batch:
        """These rows in this order, as wide as the longest of them; shorter ones are padded with token 0."""


class StoredTask(Task):
    """A task that owns its examples: training goes over the rows of its training split, epoch after epoch, and tests
    are rows of its test split, none of them twice. ``identity`` puts every row into its split."""

    @abstractmethod
    def rows(self, split: Literal["train", "test"]) -> StoredRows:
        """All rows of a split, in the order of the file."""
