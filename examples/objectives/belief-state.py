# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""The Belief State Transformer: forward and backward encoders predict both neighbours of every gap.

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. One encoder reads a prefix, the other a suffix from its end. For each pair with a gap between
them a head predicts the gap's first and last token. The token before the goal is a look-up, as in reversed training,
and teaches the states that choose n2. Hu et al. 2024, arXiv 2410.23506. Prints the loss, and the shares of answers and
of decisions (n2) that are right on new graphs. With 4 heads the library solved G(2, 5) in ten runs of eleven, at 1,000
to 3,600.
"""

import argparse

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
        edges = [(arm[at], arm[at + 1], BAR) for arm in arms for at in range(LENGTH - 1)]
        shuffled = [token for edge in torch.randperm(len(edges), generator=rng) for token in edges[edge]]
        prompts += [[*shuffled[:-1], SLASH, centre, arm[-1], EQUALS] for arm in arms]
        answers += arms
    return torch.tensor(prompts), torch.tensor(answers)


class Layer(nn.TransformerEncoderLayer):
    """x += attention(norm(x)); x += mlp(norm(x)), causal, with rotary positions; dropout would hurt exact look-ups."""

    def _sa_block(self, x, *_, **__):  # the attention, [B, T, WIDTH] -> [B, T, WIDTH]
        qkv = functional.linear(x, self.self_attn.in_proj_weight, self.self_attn.in_proj_bias)
        qkv = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # [3, B, HEADS, T, d]
        angles = torch.arange(x.shape[1])[:, None] * 10000.0 ** -torch.arange(0, 1, 2 * HEADS / WIDTH)  # [T, d / 2]
        a, b = qkv[:2].chunk(2, -1)  # pairs of dimensions of queries and keys are turned
        q, k = torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)
        found = functional.scaled_dot_product_attention(q, k, qkv[2], is_causal=True)
        return self.self_attn.out_proj(found.transpose(1, 2).flatten(2))


class Model(nn.Module):
    """Two encoders on one token table, and norm(c + SwiGLU(c)) of c = [prefix state; suffix state]."""

    def __init__(self):
        super().__init__()
        layer = Layer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        encoders = [nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), False) for _ in range(2)]
        self.token_table, (self.backbone, self.backward_encoder) = nn.Embedding(VOCAB, WIDTH), encoders
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
