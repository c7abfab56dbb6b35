# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Ranking into the future: at every step the rest of the answer, in order, above everything else (RITF).

The prompt lists the edges of a star of arms in random order and names the end of one arm; the answer is the path to it:
`u,v|u,v|.../start,goal=` and `start,n2,n3,n4,goal` (one token a node). No distribution is learned but an order: the
next token first, then those after it, above all symbols that do not come. Each pair adds a hinge until it is apart by
one. Frydenlund 2025, arXiv 2503.10542; its lower rank is the other arms' nodes, here every symbol that does not come.

Printed every 50 steps, on new graphs: the loss, and the share of answers and of decisions (n2) that are right. The loss
is in units of the scores and not in nats: as probabilities they mean nothing, greedily they rank.
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
    """Hinges, summed over pairs and averaged over answer tokens."""
    inputs = torch.cat((prompt, answer[:, :-1]), 1)
    states = model(model.token_table(inputs))[:, prompt.shape[1] - 1 :]
    scores = model.logits(states)  # [B, LENGTH, VOCAB]
    listed = scores.gather(2, answer[:, None].expand(-1, LENGTH, -1))  # [B, i, j]: of answer token j, at step i
    steps = torch.arange(LENGTH)
    to_come = steps >= steps[:, None]  # [i, j]: at step i, token j is still to come (nodes of an answer differ)
    # Sooner above later: pairs i <= j < k.
    pairs = to_come[:, :, None] & to_come[:, None, :] & (steps[:, None] < steps)
    future = functional.relu(1 - listed[..., :, None] + listed[..., None, :]) * pairs
    # What comes above what does not, the answer's own past included: a symbol that nothing ranks could win.
    coming = functional.one_hot(answer, VOCAB).flip(1).cumsum(1).flip(1) > 0  # [B, i, VOCAB]
    against = to_come[:, :, None] & ~coming[:, :, None, :]  # [B, i, j, VOCAB]
    others = functional.relu(1 - listed[..., :, None] + scores[..., None, :]) * against
    return (future.sum() + others.sum()) / answer.numel()


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
    parser.add_argument("--steps", type=int, default=2000)
    main(parser.parse_args().steps)
