# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""A bag of future tokens: a second head says which symbols come after the next one (FSP).

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. From the start, which must predict n2, the bag is the rest of the arm. The next token itself is
left out, as it is next-token's own. Mahajan et al. 2025, arXiv 2510.14751: future-summary prediction with a bag of
words made by hand. Prints the loss, and the shares of answers and of decisions (n2) that are right on new graphs. n2
was at 1/2 after 6,000 steps in the library's runs; the paper trains 500 epochs.
"""

import argparse

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
        self.bag_head = nn.Linear(WIDTH, VOCAB, bias=False)  # dropped at decoding

    def forward(self, x):  # inputs [B, T, WIDTH] -> final states [B, T, WIDTH]
        return self.layers(x)

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer):
    """Next-token's loss plus the binary cross entropy of the bag, a mean over symbols."""
    inputs = torch.cat((prompt, answer[:, :-1]), 1)
    states = model(model.token_table(inputs))[:, prompt.shape[1] - 1 :]  # [B, LENGTH, WIDTH]
    plain = functional.cross_entropy(model.logits(states).flatten(0, 1), answer.flatten())
    one_hot = functional.one_hot(answer, VOCAB)
    from_here_on = one_hot.flip(1).cumsum(1).flip(1)  # [B, LENGTH, VOCAB]: how often each symbol comes from token i on
    bag = (from_here_on - one_hot).clamp(max=1)  # after token i; empty at the last
    # The paper sums over symbols. That sum begins at VOCAB * ln(2) = 38 and swamps the other loss, hence the mean.
    return plain + functional.binary_cross_entropy_with_logits(model.bag_head(states), bag.float())


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
