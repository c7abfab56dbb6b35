# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Inserted futures: half of the training answers begin with a copy of what is to come (TRELAWNEY).

The prompt lists the edges of a star of arms in random order and names the end of one arm; the answer is the path to it:
`u,v|u,v|.../start,goal=` and `start,n2,n3,n4,goal` (one token a node). In those rows a span of the answer stands before
it, between <T> and </T>, and is predicted like the rest: a later part must be known before n2 is chosen. Thankaraj et
al. 2025, arXiv 2504.11336. Decoding inserts nothing.

Printed every 50 steps, on new graphs: the loss, and the share of answers and of decisions (n2) that are right: at 1/2
within 2,000 steps in the library's runs; the paper fine-tunes pretrained models.
"""

import argparse
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, OPEN, CLOSE, VOCAB = range(
    NODES, NODES + 7
)  # "|", "=", "/", "$", and those of its own, and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 2e-3
SHARE, SPAN = 0.5, 3


def path_star(graphs, rng):
    """Prompts [B, P] and answers [B, LENGTH], B = graphs * DEGREE: each graph is asked for each of its ends."""
    prompts, answers = [], []
    for _ in range(graphs):
        centre, *labels = torch.randperm(NODES, generator=rng).tolist()
        arms = [[centre, *labels[arm::DEGREE][: LENGTH - 1]] for arm in range(DEGREE)]
        edges = [(u, v, BAR) for arm in arms for u, v in pairwise(arm)]
        shuffled = [token for edge in torch.randperm(len(edges), generator=rng) for token in edges[edge]]
        prompts += [[*shuffled[:-1], SLASH, centre, arm[-1], EQUALS] for arm in arms]
        answers += arms
    return torch.tensor(prompts), torch.tensor(answers)


class Model(nn.Module):
    """A decoder-only Transformer; its output head is the token table once more."""

    def __init__(self):
        super().__init__()
        self.token_table, self.position_table = nn.Embedding(VOCAB, WIDTH), nn.Embedding(64, WIDTH)
        # Pre-norm: x += attention(norm(x)); x += mlp(norm(x)). No dropout, which hurts exact look-ups.
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, x):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH], each of what is read up to there."""
        steps = torch.arange(x.shape[1])
        return self.layers(x + self.position_table(steps), mask=steps > steps[:, None])  # True: must not be read

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer, rng):
    """Mean cross entropy of everything after the prompt but <T>, over all rows together."""
    inserted = torch.rand(len(prompt), generator=rng) < SHARE
    # Each copy's length is uniform on 1 to SPAN, and so is its place among those where it fits.
    _, place, size = torch.rand(3, int(inserted.sum()), dtype=torch.float64, generator=rng)
    copied = 1 + (size * min(SPAN, LENGTH)).long()
    spans = zip((place * (LENGTH - copied + 1)).long().tolist(), copied.tolist(), strict=True)
    tokens, counts = [], []
    for true, has_future in zip(answer.tolist(), inserted, strict=True):
        start, size = next(spans) if has_future else (0, 0)
        future = [OPEN, *true[start : start + size], CLOSE] if has_future else []
        # <T> is no target, or the network would open futures unasked; </T> is one. Padding, on the right, is neither.
        padding = (SPAN + 2 - len(future)) * [0]
        tokens.append([*future, *true, *padding])
        counts.append([at > 0 for at in range(len(future))] + [True] * LENGTH + [False] * len(padding))
    tokens, counts = torch.tensor(tokens), torch.tensor(counts)  # [B, SPAN + 2 + LENGTH]
    states = model(model.token_table(torch.cat((prompt, tokens[:, :-1]), 1)))[:, prompt.shape[1] - 1 :]
    return functional.cross_entropy(model.logits(states)[counts], tokens[counts])


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers, one token at a time: [B, P] -> [B, LENGTH]."""
    tokens = prompt
    for _ in range(LENGTH):
        states = model(model.token_table(tokens))[:, -1:]
        tokens = torch.cat((tokens, model.logits(states).argmax(-1)), 1)
    return tokens[:, prompt.shape[1] :]


def main(steps):
    """Trains, on new graphs at every step."""
    torch.manual_seed(0)
    rng, model = torch.Generator().manual_seed(0), Model()
    for weight in (each for each in model.parameters() if each.dim() > 1):
        nn.init.normal_(weight, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = RATE * min(1, step / 100)  # warm-up
        total = loss(model, *path_star(64, rng), rng)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps:
            prompt, answer = path_star(100, rng)
            right = (generate(model, prompt) == answer).float()
            print(f"{step=}, {total=:.3f}, answers right {right.prod(1).mean():.2f}, n2 right {right[:, 1].mean():.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    main(parser.parse_args().steps)
