# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""sigma-GPT: next-token prediction in random orders, each input with the place that comes next.

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. For each row a random order of the answer is drawn anew, the reversed one among them. Input:
E(token) + Pos(own place) + Pos'(place to predict), causal in that order. Pannatier, Courdier & Fleuret 2024, arXiv
2404.09562, without its curriculum of orders. Prints the loss, and the shares of answers and of decisions (n2) that are
right on new graphs. n2 was at 1/2 after 2,400 steps in the library's run (rotary positions).
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
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


class Model(nn.Module):
    """A decoder-only Transformer; its output head is the token table once more."""

    def __init__(self):
        super().__init__()
        self.token_table, self.position_table = nn.Embedding(VOCAB, WIDTH), nn.Embedding(64, WIDTH)
        # Pre-norm: x += attention(norm(x)); x += mlp(norm(x)). No dropout, which hurts exact look-ups.
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.target_table = nn.Embedding(64, WIDTH)  # Pos'

    def forward(self, x, places):
        """Inputs [B, T, WIDTH] that stand at ``places`` [B, T + 1], the next one's included -> states [B, T, WIDTH]."""
        steps = torch.arange(x.shape[1])
        x = x + self.position_table(places[:, :-1]) + self.target_table(places[:, 1:])
        return self.layers(x, mask=steps > steps[:, None])  # True: must not be read

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer, rng):
    """Mean cross entropy of the answer's tokens, each given those before it in the row's own order."""
    order = torch.rand(answer.shape, dtype=torch.float64, generator=rng).argsort(1)  # [B, LENGTH]
    in_order = answer.gather(1, order)
    first = prompt.shape[1]
    # The prompt stays first and in order; "=" carries Pos' of the first answer token to come.
    places = torch.cat((torch.arange(first).expand_as(prompt), first + order), 1)
    inputs = torch.cat((prompt, in_order[:, :-1]), 1)
    states = model(model.token_table(inputs), places)[:, first - 1 :]
    return functional.cross_entropy(model.logits(states).flatten(0, 1), in_order.flatten())


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers from left to right, one of the orders trained: [B, P] -> [B, LENGTH]."""
    tokens = prompt
    for _ in range(LENGTH):
        places = torch.arange(tokens.shape[1] + 1).expand(len(tokens), -1)
        states = model(model.token_table(tokens), places)[:, -1:]
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
    parser.add_argument("--steps", type=int, default=2400)
    main(parser.parse_args().steps)
