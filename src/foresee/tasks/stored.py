"""Tasks whose examples are a user's, kept on disk, and not drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

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

    @property
    def frame(self) -> tuple[str, str]:
        """What stands before and after the text of every prompt, as the names of its symbols."""
        return "", ""

    @abstractmethod
    def rows(self, split: Literal["train", "test"]) -> StoredRows:
        """All rows of a split, in the order of the file."""
