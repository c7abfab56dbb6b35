"""Trained rows and weights put back into a whole model of the transformers library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foresee.core.seeds import global_stream_from, torch_stream
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def exported_ids(ids: tuple[int | None, ...], rows: int) -> tuple[int, ...]:
    """The token of every task symbol in a model whose table had ``rows`` rows: its own, or, where it had none, one of
    the rows added at the table's end."""
    fresh = iter(range(rows, rows + len(ids)))
    return tuple(next(fresh) if token is None else token for token in ids)


@torch.no_grad()
def put_back(
    model: Any, state: Mapping[str, Tensor], ids: tuple[int | None, ...], rows: Mapping[str, Tensor | None]
) -> None:
    """Writes into ``model``, a causal language model in float32: ``state``, the weights of its inner model but for the
    embedding table, and ``rows`` "table", "head" (None: tied) and "bias" (None: there is none) of the tokens ``ids``.

    Symbols without a token of their own get new rows at the end of the tables.
    """
    given = {name: value.detach().cpu().float() for name, value in state.items()}
    kept = model.base_model.load_state_dict(given, strict=False)
    inputs = model.get_input_embeddings()
    tables = {name for name, value in model.base_model.named_parameters() if value is inputs.weight}
    if kept.unexpected_keys or set(kept.missing_keys) - tables:
        raise RuntimeError(f"weights without a place, or places without weights: {kept}")
    before = len(inputs.weight)
    if None in ids:
        with global_stream_from(torch_stream("hf", "more rows")):
            model.resize_token_embeddings(before + ids.count(None), mean_resizing=False)
    places = torch.tensor(exported_ids(ids, before), dtype=torch.int64)
    head = model.get_output_embeddings()
    targets = {"table": model.get_input_embeddings().weight, "head": head.weight, "bias": head.bias}
    for name, trained in rows.items():
        if trained is not None:
            targets[name][places] = trained.detach().cpu().float()


def tokenizer_of(vocab: Vocabulary, ids: tuple[int, ...]) -> PreTrainedTokenizerBase:
    """Reads a task's text form into these tokens, one a symbol. The checkpoint's own tokenizer would also write the
    commas between labels, which the backbone was never shown."""
    from tokenizers.models import WordLevel

    from foresee.backbones.counterparts.words import word_tokenizer

    made = word_tokenizer(vocab)
    made.backend_tokenizer.model = WordLevel(dict(zip(vocab, ids, strict=True)), unk_token="")
    return made
