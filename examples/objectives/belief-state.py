# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""The Belief State Transformer: forward and backward encoders predict both neighbours of every gap.

The prompt lists the edges of a star of arms in random order and names the end of one arm; the answer is the path to it:
`u,v|u,v|.../start,goal=` and `start,n2,n3,n4,goal` (one token a node). One encoder reads a prefix, the other a suffix
from its end. For each pair with a gap between them a head predicts the gap's first and last token. The token before the
goal is a look-up, as in reversed training, and teaches the states that choose n2. Hu et al. 2024, arXiv 2410.23506.

Printed every 50 steps, on new graphs: the loss, and the share of answers and of decisions (n2) that are right. It
solved G(2, 5) at steps 900 to 1,000 in three of three runs of the library (rotary positions).
"""

import argparse
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, END, VOCAB = range(
    NODES, NODES + 6
)  # "|", "=", "/", "$", and those of its own, and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 1e-3


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


class Encoder(nn.TransformerEncoder):
    """A causal Transformer without its token table, from inputs [B, T, WIDTH] to final states [B, T, WIDTH]."""

    def __init__(self):
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        super().__init__(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.position_table = nn.Embedding(64, WIDTH)

    def forward(self, x):
        steps = torch.arange(x.shape[1])
        return super().forward(x + self.position_table(steps), mask=steps > steps[:, None])  # True: must not be read


class Model(nn.Module):
    """Two encoders on one token table, and norm(c + SwiGLU(c)) of c = [prefix state; suffix state]."""

    def __init__(self):
        super().__init__()
        self.token_table, self.backbone, self.backward_encoder = nn.Embedding(VOCAB, WIDTH), Encoder(), Encoder()
        self.inward = nn.Linear(2 * WIDTH, 2 * (16 * WIDTH // 3), bias=False)
        self.outward, self.norm = nn.Linear(16 * WIDTH // 3, 2 * WIDTH, bias=False), nn.RMSNorm(2 * WIDTH, 1e-6)

    def forward(self, prefixes, suffixes):
        """States [B, N, WIDTH] -> scores [B, N, VOCAB] of the token after each prefix and before each suffix."""
        c = torch.cat((prefixes, suffixes), -1)
        gate, gated = self.inward(c).chunk(2, -1)
        halves = self.norm(c + self.outward(functional.silu(gate) * gated)).chunk(2, -1)
        return [half @ self.token_table.weight.T for half in halves]


def loss(model, prompt, answer):
    """Mean over pairs of half the cross entropy of both neighbours."""
    backwards, end = answer.flip(1), torch.full_like(answer[:, :1], END)
    # Prefix i ends before answer token i. Suffix m is the last m tokens and END, read backwards: END, goal, n4, ...
    prefixes = model.backbone(model.token_table(torch.cat((prompt, answer[:, :-1]), 1)))[:, prompt.shape[1] - 1 :]
    suffixes = model.backward_encoder(model.token_table(torch.cat((end, backwards[:, :-1]), 1)))
    # A gap of at least one token lies between them where i + m < LENGTH: the suffix must not hold what is predicted.
    i, m = torch.tensor([(i, m) for m in range(LENGTH) for i in range(LENGTH - m)]).T
    following, preceding = model(prefixes[:, i], suffixes[:, m])
    after = functional.cross_entropy(following.flatten(0, 1), answer[:, i].flatten())
    before = functional.cross_entropy(preceding.flatten(0, 1), backwards[:, m].flatten())
    return (after + before) / 2


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers with the empty suffix, whose state is a constant: [B, P] -> [B, LENGTH]."""
    tokens, empty = prompt, model.backward_encoder(model.token_table(torch.full((len(prompt), 1), END)))
    for _ in range(LENGTH):
        following, _ = model(model.backbone(model.token_table(tokens))[:, -1:], empty)
        tokens = torch.cat((tokens, following.argmax(-1)), 1)
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
    parser.add_argument("--steps", type=int, default=1000)
    main(parser.parse_args().steps)
