"""Models of the transformers library that compute what a backbone computes, and a tokenizer for them.

A package of its own, so that looking for backbones does not read the library, which takes a second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from foresee.core.seeds import global_stream_from, torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.text import TextForm

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast


def build_filled(cls: type[PreTrainedModel], config: Any, weights: Mapping[str, Tensor | None]) -> PreTrainedModel:
    """Builds the library's model of a configuration with these weights, which must be all it has, on the CPU in
    float32, in evaluation mode."""
    with global_stream_from(torch_stream("counterpart")):  # it draws what is then overwritten
        model = cls(config)
    model.load_state_dict({name: value for name, value in weights.items() if value is not None})
    model.train(False)
    return model


def word_tokenizer(vocab: Vocabulary, ids: Sequence[int]) -> PreTrainedTokenizerFast:
    """Makes a tokenizer that reads a task's text form, one token of ``ids`` a symbol of ``vocab``; what lies between
    symbols, such as commas, is passed over."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    # Longest first, so that "12" is not read as "1" and "2".
    longest_first = sorted(vocab, key=lambda symbol: (-len(symbol), symbol))
    # No unknown token: it would need a row in the model's table, and what is not a symbol never becomes a token.
    tokenizer = Tokenizer(WordLevel(dict(zip(vocab, ids, strict=True)), unk_token=""))
    symbols = Regex("|".join(map(re.escape, longest_first)))
    tokenizer.pre_tokenizer = Split(symbols, behavior="removed", invert=True)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it without types
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False
    )


def write_as_text(tokenizer: PreTrainedTokenizerBase, form: TextForm, end: str | None) -> None:
    """Has a word tokenizer write tokens as the task's text, and hold the symbol ``end`` of every answer, or without one
    that of every prompt, which no answer holds, for the end of a text and for padding, as other tools ask of it."""
    from tokenizers import decoders

    marks = {*form.marks, *form.answer_marks}
    steps = [decoders.WordPiece("##", cleanup=False), decoders.Fuse()]  # a space between any two symbols
    steps += [decoders.Replace(part, mark) for mark in sorted(marks) for part in (f" {mark}", f"{mark} ")]
    steps.append(decoders.Replace(" ", form.separator))
    backend: Any = tokenizer.backend_tokenizer
    backend.decoder = decoders.Sequence(steps)
    closing = form.ends[0] if end is None else end
    if tokenizer.convert_tokens_to_ids(closing) is not None:
        tokenizer.eos_token = tokenizer.pad_token = closing
