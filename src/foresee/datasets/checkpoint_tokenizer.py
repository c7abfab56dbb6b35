"""A checkpoint's own tokenizer. Tokens are numbered as the checkpoint numbers them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from foresee.core.errors import RequestError
from foresee.datasets.tokenizers import Tokenizer


class CheckpointTokenizer(Tokenizer):
    """The tokenizer in the folder, or under the hub id, of a checkpoint. Texts are cut without the tokens that the
    tokenizer adds around them; ``before`` are those that it puts first, such as a beginning-of-text token."""

    def __init__(self, path: str) -> None:
        """Raises ``RequestError`` where there is no tokenizer, or one that does not say which token ends a text."""
        from foresee.core.checkpoint_files import checkpoint_folder, load_tokenizer, tokenizer_digest

        self.path = path
        folder = checkpoint_folder(path)
        self.digest = tokenizer_digest(folder)
        if not self.digest:
            raise RequestError(f"data: tokenizer=hf:{path}: the checkpoint holds no tokenizer")
        self._tokenizer: Any = load_tokenizer(folder, path)
        if self._tokenizer.eos_token_id is None:
            raise RequestError(
                f"data: tokenizer=hf:{path} has no end-of-text token (eos_token), so where a response ends cannot be "
                "told; give one in tokenizer_config.json"
            )
        self.end = int(self._tokenizer.eos_token_id)

    @cached_property
    def before(self) -> tuple[int, ...]:
        """Tokens that the tokenizer puts before a text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False)
        framed = self._tokenizer.encode("a", add_special_tokens=True)
        for place in range(len(framed) - len(bare) + 1):
            if framed[place : place + len(bare)] == bare:
                return tuple(framed[:place])
        return ()

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        size = len(self._tokenizer)
        names = self._tokenizer.convert_ids_to_tokens(list(range(size)))
        return tuple(f"<{token}>" if name is None else name for token, name in enumerate(names))

    def encode(self, text: str) -> list[int]:
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        # verbose=False: it would warn of texts longer than the model reads, which is said where the model is known.
        found: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        known = [token for token in tokens if 0 <= token < len(self._tokenizer)]
        text: str = self._tokenizer.decode(known, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
