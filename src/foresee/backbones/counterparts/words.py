"""A tokenizer file for a task's own vocabulary, so that an exported checkpoint reads the task's text form."""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from foresee.core.vocabulary import Vocabulary


def word_tokenizer(vocab: Vocabulary) -> PreTrainedTokenizerFast:
    """One token a symbol, numbered as in ``vocab``; what lies between symbols, such as commas, is passed over."""
    # Longest first, so that "12" is not read as "1" and "2".
    longest_first = sorted(vocab, key=lambda symbol: (-len(symbol), symbol))
    # No unknown token: it would need a row in the model's table, and what is not a symbol never becomes a token.
    tokenizer = Tokenizer(WordLevel({symbol: token for token, symbol in enumerate(vocab)}, unk_token=""))
    symbols = Regex("|".join(map(re.escape, longest_first)))
    tokenizer.pre_tokenizer = Split(symbols, behavior="removed", invert=True)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it without types
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False
    )
