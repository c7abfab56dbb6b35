"""A tiny quantised Llama with a byte-level tokenizer of a few words, written to a GGUF file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy

WIDTH, HIDDEN, LAYERS = 32, 64, 2
WORDS = ("lamp", "tree", "road", "bird", "cloud", "stone", "river", "chair", "plant", "table")
MARKS = "|=/$,"


def tokenizer() -> tuple[list[str], list[str]]:
    """Tokens and merges: characters, the words after a space with all their beginnings, and their plurals."""
    tokens = ["<s>", "</s>", *MARKS, *"0123456789", *sorted(set("".join(WORDS) + "s")), "Ġ"]
    merges = []
    for word in WORDS:
        for end in range(len(word) + 1):
            left, right = f"Ġ{word}s"[: end + 1], f"Ġ{word}s"[end + 1]
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    return tokens, merges


def write(path: Path) -> dict[str, numpy.ndarray]:
    """Writes the file; its weights by GGUF's names, as they are read back."""
    tokens, merges = tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(WIDTH // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types([gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(tokens) - 2))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {"token_embd": (len(tokens), WIDTH)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_q": (WIDTH, WIDTH), f"blk.{layer}.attn_k": (WIDTH // 2, WIDTH),
            f"blk.{layer}.attn_v": (WIDTH // 2, WIDTH), f"blk.{layer}.attn_output": (WIDTH, WIDTH),
            f"blk.{layer}.ffn_gate": (HIDDEN, WIDTH), f"blk.{layer}.ffn_up": (HIDDEN, WIDTH),
            f"blk.{layer}.ffn_down": (WIDTH, HIDDEN),
        }  # fmt: skip
    draws, kind = numpy.random.default_rng(0), gguf.GGMLQuantizationType.Q8_0
    weights: dict[str, numpy.ndarray] = {}
    for name, shape in shapes.items():
        stored = gguf.quants.quantize(draws.normal(0, 0.2, shape).astype(numpy.float32), kind)
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)
        weights[name] = gguf.quants.dequantize(stored, kind)
    for name in ("output_norm", *(f"blk.{layer}.{kind}_norm" for layer in range(LAYERS) for kind in ("attn", "ffn"))):
        weights[name] = numpy.ones(WIDTH, numpy.float32)
        writer.add_tensor(f"{name}.weight", weights[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights
