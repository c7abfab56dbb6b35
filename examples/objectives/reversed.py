# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Reversed targets: teacher forcing from the answer's last token to its first, the positive control.

The prompt lists the edges of a star of arms in random order and names the end of one arm; the answer is the path to it:
`u,v|u,v|.../start,goal=` and `start,n2,n3,n4,goal` (one token a node). From the end, the goal is a copy and every later
token the only predecessor of the one just read: a look-up each, and no decision is left. Where this fails, network or
budget are at fault and no other result means anything. Bachmann & Nagarajan 2024, arXiv 2403.06963.

Printed every 50 steps, on new graphs: the loss, and the share of answers and of decisions (n2) that are right. All
three are solved together, as soon as edges can be looked up.
"""

import argparse
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 2e-3


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


def loss(model, prompt, answer):
    """Mean cross entropy of the answer's tokens, in reversed order."""
    # The sequence is flipped, and the mask stays causal: a mask turned round would leave the prompt unread.
    backwards = answer.flip(1)  # goal, n4, n3, n2, start
    inputs = torch.cat((prompt, backwards[:, :-1]), 1)  # [B, P + LENGTH - 1]
    states = model(model.token_table(inputs))[:, prompt.shape[1] - 1 :]  # from "=" on: [B, LENGTH, WIDTH]
    return functional.cross_entropy(model.logits(states).flatten(0, 1), backwards.flatten())


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers in their own order, decided from the last token to the first: [B, P] -> [B, LENGTH]."""
    tokens = prompt
    for _ in range(LENGTH):
        states = model(model.token_table(tokens))[:, -1:]
        tokens = torch.cat((tokens, model.logits(states).argmax(-1)), 1)
    return tokens[:, prompt.shape[1] :].flip(1)


def main(steps):
    """Trains, on new graphs at every step."""
    torch.manual_seed(0)
    rng, model = torch.Generator().manual_seed(0), Model()
    for weight in (each for each in model.parameters() if each.dim() > 1):
        nn.init.normal_(weight, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = RATE * min(1, step / 100)  # warm-up
        total = loss(model, *path_star(64, rng))
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
    parser.add_argument("--steps", type=int, default=400)
    main(parser.parse_args().steps)
