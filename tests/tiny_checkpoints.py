"""Tiny random checkpoints and tokenizers, written to disk as the hub's are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from support import scramble
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from foresee.core import seeds
from foresee.core.checkpoint_files import quiet
from foresee.core.vocabulary import Vocabulary

ROWS, WIDTH, CONTEXT = 61, 32, 64

NO_ENDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
ATTENTION: dict[str, Any] = {
    "hidden_size": WIDTH, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": CONTEXT,
}  # fmt: skip
GROUPED: dict[str, Any] = ATTENTION | {"num_key_value_heads": 2}
MAMBA2: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {"n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": 2, "n_head": 4}),
    "gpt_neox": ("GPTNeoXConfig", ATTENTION | {"num_hidden_layers": 2}),
    "llama": ("LlamaConfig", GROUPED | {"num_hidden_layers": 2}),
    "qwen3": ("Qwen3Config", GROUPED | {"num_hidden_layers": 2, "head_dim": 8, "tie_word_embeddings": True}),
    "mamba": ("MambaConfig", {"hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8}),
    "jamba": (
        "JambaConfig",
        GROUPED
        | {
            "num_hidden_layers": 2, "num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2,
            "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False,
            "mamba_d_state": 8, "mamba_dt_rank": 4,
        },
    ),
    # Beyond the six, each for a trap of its own.
    "falcon_h1": ("FalconH1Config", GROUPED | MAMBA2 | {"num_hidden_layers": 2, "head_dim": 8, "mamba_d_ssm": 64}),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        {
            "hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
            "lru_width": WIDTH, "attention_window_size": 16,
        },
    ),
    "zamba2": (
        "Zamba2Config",
        ATTENTION
        | {
            "num_hidden_layers": 4, "num_key_value_heads": 4, "num_mem_blocks": 1, "use_mem_rope": False,
            "layers_block_type": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3], "mamba_headdim": 16,
            "mamba_d_state": 8, "n_mamba_heads": 4, "mamba_ngroups": 1, "chunk_size": 8,
        },
    ),
    "bamba": ("BambaConfig", GROUPED | MAMBA2 | {"num_hidden_layers": 2, "attn_layer_indices": [1]}),
    "mamba2": (
        "Mamba2Config",
        {
            "hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16,
            "n_groups": 1, "chunk_size": 8,
        },
    ),
    "gemma2": (
        "Gemma2Config",
        GROUPED | {"num_hidden_layers": 2, "head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 2.0},
    ),
    "cohere": ("CohereConfig", GROUPED | {"num_hidden_layers": 2, "logit_scale": 0.25}),
    "phi": ("PhiConfig", ATTENTION | {"num_hidden_layers": 2}),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "hidden_size": WIDTH, "num_layers": 2, "num_heads": 4, "max_position_embeddings": CONTEXT,
            "attention_types": [[["global", "local"], 1]], "window_size": 16,
        },
    ),
    "bert": ("BertConfig", ATTENTION | {"num_hidden_layers": 2, "is_decoder": False}),
}  # fmt: skip
FAMILIES = ("gpt2", "gpt_neox", "llama", "qwen3", "mamba", "jamba")


def config(family: str, **changes: Any) -> Any:
    """A configuration of a few thousand parameters."""
    name, options = CONFIGS[family]
    return getattr(transformers, name)(**({"vocab_size": ROWS} | NO_ENDS | options | changes))


def model(family: str, **changes: Any) -> Any:
    """A random causal language model, every parameter away from a value that would hide a mistake."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        auto: Any = AutoModelForCausalLM
        made = auto.from_config(config(family, **changes), dtype=torch.float32)
    return made.eval()


def save(folder: Path, family: str = "gpt2", *, std: float | None = None, **changes: Any) -> Path:
    """Writes a checkpoint without a tokenizer; with ``std`` its weights are drawn anew, larger than initialised."""
    made = model(family, **changes)
    if std is not None:
        scramble(made, std)
    with quiet():
        made.save_pretrained(folder)
    return folder


# Tokenizers -----------------------------------------------------------------------------------------------------------


def _write(folder: Path, tokenizer: Tokenizer, **special: str) -> Path:
    wrap: Any = PreTrainedTokenizerFast
    wrapped = wrap(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    wrapped.save_pretrained(folder)
    return folder


def merged_digits(folder: Path, labels: Sequence[str]) -> Path:
    """Byte-level BPE that merges neighbouring digits into the given labels, as GPT-2's does with short numbers."""
    vocab = {symbol: place for place, symbol in enumerate("0123456789,|=/$")}
    merges = []
    for label in labels:
        if len(label) == 2:
            vocab[label] = len(vocab)
            merges.append((label[0], label[1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _write(folder, tokenizer)


def single_digits(folder: Path) -> Path:
    """Byte-level BPE that never joins digits, as Qwen's."""
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: place for place, symbol in enumerate("$/=|,9876543210")}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _write(folder, tokenizer)


def words(folder: Path, symbols: Sequence[str]) -> Path:
    """One token a word, and one for every unknown word."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0} | {s: n for n, s in enumerate(symbols, 1)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _write(folder, tokenizer, unk_token="[UNK]")


def word_starts(folder: Path) -> Path:
    """BPE as sentencepiece has it: a mark before every word, and digits both with the mark and without."""
    vocab = {piece: place for place, piece in enumerate(["<unk>", *"0123456789,|=/$▁"])}
    merges = []
    for digit in "0123456789":
        vocab[f"▁{digit}"] = len(vocab)
        merges.append(("▁", digit))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    return _write(folder, tokenizer, unk_token="<unk>")


def marked_words(folder: Path, symbols: Sequence[str]) -> Path:
    """Whole words with a mark before each: a symbol has no token but the one at the start of a word."""
    vocab = {"<unk>": 0} | {f"▁{symbol}": place for place, symbol in enumerate(symbols, 1)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _write(folder, tokenizer, unk_token="<unk>")


def lower_cased(folder: Path) -> Path:
    """Words in lower case, so that "A" and "a" are one token."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, ",": 3}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _write(folder, tokenizer, unk_token="[UNK]")


# Around them ----------------------------------------------------------------------------------------------------------


def path_star(nodes: int) -> Vocabulary:
    """The vocabulary of path-star with this many labels."""
    return Vocabulary((*map(str, range(nodes)), "|", "=", "/", "$"))


def edit_config(folder: Path, **changes: Any) -> None:
    """Changes entries of a checkpoint's ``config.json``; None removes one."""
    file = folder / "config.json"
    raw = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


def generator(*key: str) -> torch.Generator:
    """A stream of this key."""
    return seeds.torch_stream("tiny checkpoints", *key)
