"""Tasks whose examples are a user's, kept on disk, and not drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy
import torch

from foresee.core.batch import Batch
from foresee.datasets.cache import Rows
from foresee.datasets.dataset import DataSet
from foresee.tasks.base import Task


class StoredRows:
    """Those rows of a data set whose numbers are ``index``, read from disk as they are asked for."""

    def __init__(self, stored: DataSet, index: Rows) -> None:
        self._stored, self._index = stored, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and answer."""
        return self._stored.pair(int(self._index[row]))

    def lengths(self, rows: Rows) -> Rows:
        """[n] numbers of rows -> [n, 2] tokens of their prompts and answers."""
        return self._stored.lengths(self._index[rows])

    def batch(self, rows: Rows | Sequence[int]) -> Batch:
        """These rows in this order, as wide as the longest of them; shorter ones are padded with token 0."""
        tokens, lengths = self._stored.gather(self._index[numpy.asarray(rows, numpy.int64)])
        return Batch.of(torch.from_numpy(tokens), torch.from_numpy(lengths[:, 0]), torch.from_numpy(lengths[:, 1]))


class StoredTask(Task):
    """A task that owns its examples: training goes over the rows of its training split, epoch after epoch, and tests
    are rows of its test split, none of them twice. ``identity`` puts every row into its split."""

    path: str
    """Where the examples lie."""

    @property
    def frame(self) -> tuple[str, str]:
        """What stands before and after the text of every prompt, as the names of its symbols."""
        return "", ""

    @abstractmethod
    def keep(self) -> Mapping[str, Any]:
        """What a run keeps as JSON, so that its model can be used without the files, or with others."""

    @classmethod
    @abstractmethod
    def restore(cls, options: Mapping[str, Any], kept: Path) -> Self:
        """The task of these options by the file of what was kept; its own are read once its rows are asked for. Raises
        ``RequestError`` where that file is damaged."""

    @abstractmethod
    def at(self, place: Path, *, whole: bool = False) -> Self:
        """The same task on the rows of other files, all of which are for testing where they are taken ``whole``."""

    @abstractmethod
    def read_answer(self, text: str) -> list[int]:
        """Tokens of what ``write_answer`` wrote."""

    @abstractmethod
    def digest(self) -> str:
        """As ``content_digest``, of the files as they are now. Raises ``RequestError`` where one is missing."""

    @abstractmethod
    def rows(self, split: Literal["train", "test"]) -> StoredRows:
        """All rows of a split, in the order of the file."""
