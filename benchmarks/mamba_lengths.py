"""How a training step of ``mamba`` and ``mamba2`` grows with the length of sequences, and what decoding a token costs.

    python benchmarks/mamba_lengths.py

Training steps on 8 random sequences of 32 to 512 tokens, every position scored; then one more token for each of 64
prompts of 32 and of 512 tokens. Lengths take turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from common import Target, in_turn, parser, write
from mamba import run_spec
from torch.nn import functional

from foresee.backbones import Backbone, backbones
from foresee.core.isolation import keep_large_blocks
from foresee.core.seeds import torch_stream
from foresee.core.spec import resolve
from foresee.core.vocabulary import Vocabulary
from foresee.training.optimizer import adamw, autocast
from foresee.training.process import environment
from foresee.training.settings import Settings

KINDS = ("mamba", "mamba2")
LENGTHS, ROWS = (32, 64, 128, 256, 512), 8
PROMPTS, DECODED_ROWS = (32, 512), 64
VOCAB = Vocabulary(tuple(map(str, range(54))))

Work = Callable[[], object]


def build(spec: Settings) -> Backbone:
    """The backbone of ``spec`` over 54 symbols."""
    return resolve(backbones, spec.backbone).build(VOCAB, torch_stream("benchmark weights"))


def long_step(spec: Settings, rows: int, length: int) -> Work:
    """One training step on random tokens [rows, length], every position scored."""
    net = build(spec)
    optimiser = adamw(net, spec)
    tokens = torch.randint(len(VOCAB), (rows, length + 1), generator=torch_stream("benchmark tokens", length))

    def work() -> None:
        optimiser.zero_grad()
        with autocast(spec):
            logits = net.logits(net(net.embed(tokens[:, :-1])))
        torch.autograd.backward(functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()))
        torch.nn.utils.clip_grad_norm_(net.parameters(), spec.clip, foreach=True)
        optimiser.step()

    return work


def decoding(spec: Settings, rows: int, prompt: int) -> Work:
    """One more token after a prompt of that length, for every row."""
    net = build(spec).eval()
    tokens = torch.randint(len(VOCAB), (rows, prompt), generator=torch_stream("benchmark prompt", prompt))
    with torch.inference_mode(), autocast(spec):
        _, state = net.start(net.embed(tokens))
        x = net.embed(tokens[:, 0])

    def work() -> None:
        nonlocal state
        with torch.inference_mode(), autocast(spec):
            hidden, state = net.step(x, state)
            net.logits(hidden)

    return work


def main() -> None:
    """Measures both, and compares."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--burst", type=float, default=1.0, help="seconds a turn")
    arguments = options.parse_args()
    keep_large_blocks()
    quick = arguments.quick
    rounds, burst = (1, 0.0) if quick else (arguments.rounds, arguments.burst)
    lengths, rows = ((8, 16), 2) if quick else (LENGTHS, ROWS)
    prompts, decoded = ((4, 16), 4) if quick else (PROMPTS, DECODED_ROWS)
    growth, tokens = {}, {}
    lines: list[str] = []
    targets: list[Target] = []
    for kind in KINDS:
        spec = run_spec(kind, quick, ROWS)
        growth[kind] = in_turn({str(n): long_step(spec, rows, n) for n in lengths}, rounds, burst)
        tokens[kind] = in_turn({str(n): decoding(spec, decoded, n) for n in prompts}, rounds, burst)
        lines += [
            f"{kind}, {rows} sequences of {n}: {growth[kind][str(n)]:.3f} s a training step, "
            f"{1e6 * growth[kind][str(n)] / rows / n:.0f} us a token"
            for n in lengths
        ]
        lines += [f"{kind}, {decoded} tokens after {n}: {1e3 * tokens[kind][str(n)]:.2f} ms" for n in prompts]
        short, long = lengths[0], lengths[-1]
        per_token = growth[kind][str(long)] / growth[kind][str(short)] * short / long
        constant = tokens[kind][str(prompts[-1])] / tokens[kind][str(prompts[0])]
        targets += [
            Target(f"{kind}: training on a token of {long} against one of {short}", per_token, most=1.0),
            Target(f"{kind}: decoding after {prompts[-1]} tokens against {prompts[0]}", constant, most=1.1),
        ]
    measured = {
        "rows": rows, "training": growth, "decoded_rows": decoded, "decoding": tokens,
        "threads": torch.get_num_threads(), "environment": environment(), "load": os.getloadavg(),
    }  # fmt: skip
    write(arguments.json, measured, lines, targets)


if __name__ == "__main__":
    main()
