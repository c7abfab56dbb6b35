# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Token masking: teacher forcing that masks a random part of the answer it reads.

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. Every token is predicted all the same. Where the one before it is masked no single edge tells the
next, so several must be followed at once: Frydenlund 2025, arXiv 2503.10542, after a secondary source (each answer
token masked at the row's own rate, drawn from U(0, 1)). Prints the loss, and the shares of answers and of decisions
(n2) that are right on new graphs. n2 was at 1/2 after 6,000 steps in the library's runs; the source trains on a hundred
million graphs.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, MASK, VOCAB = range(
    NODES, NODES + 6
)  # "|", "=", "/", "$", and those of its own, and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 2e-3


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
    """A decoder-only Transformer; its output head is the token table once more."""

    def __init__(self):
        super().__init__()
        self.token_table = nn.Embedding(VOCAB, WIDTH)
        layer = Layer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, x):  # inputs [B, T, WIDTH] -> final states [B, T, WIDTH]
        return self.layers(x)

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer, rng):
    """Mean cross entropy of the answer's tokens, masked ones too, without any shift of positions."""
    tokens, first = torch.cat((prompt, answer), 1), prompt.shape[1]
    rate = torch.rand(len(tokens), 1, dtype=torch.float64, generator=rng)
    masked = torch.rand(tokens.shape, dtype=torch.float64, generator=rng) < rate
    masked[:, :first] = False  # never the prompt
    inputs = tokens.masked_fill(masked, MASK)[:, :-1]
    states = model(model.token_table(inputs))[:, first - 1 :]  # [B, LENGTH, WIDTH]
    return functional.cross_entropy(model.logits(states).flatten(0, 1), answer.flatten())


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
