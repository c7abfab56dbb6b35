"""The keys and values that incremental decoding keeps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class DecodingState:
    """Keys and values of every layer, [B, H, capacity, d]; the first ``length`` are filled and the rest are zero.

    Attention reads whole buffers under a mask: cutting them to ``length`` would make a CPU's matrix product copy them.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: int

    def make_room(self, most: int) -> None:
        """Where the buffers are full, moves them to ones half as long again, up to ``most`` positions."""
        if self.length == self.keys[0].shape[2]:
            capacity = min(most, self.length + max(16, self.length // 2))
            self.keys = [with_capacity(keys, capacity) for keys in self.keys]
            self.values = [with_capacity(values, capacity) for values in self.values]

    def fork(self, n: int) -> DecodingState:
        """``n`` copies of every row, row-major."""
        keys = [keys.repeat_interleave(n, 0) for keys in self.keys]
        return DecodingState(keys, [values.repeat_interleave(n, 0) for values in self.values], self.length)


def with_capacity(filled: Tensor, capacity: int) -> Tensor:
    """[B, H, T, d] copied into the start of a contiguous buffer [B, H, capacity, d]."""
    rows, heads, length, size = filled.shape
    buffer = filled.new_empty(rows, heads, capacity, size)
    buffer[:, :, :length] = filled
    buffer[:, :, length:] = 0  # never read but under a mask, where 0 * NaN would still be NaN
    return buffer
