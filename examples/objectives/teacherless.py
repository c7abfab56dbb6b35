# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Teacherless training: the whole answer is predicted in one pass, from the prompt and dummy tokens.

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. Every answer token in the input is replaced by one dummy, "$", so no node can be looked up from
the one before it, and n2 must be found with the rest. Bachmann & Nagarajan 2024, arXiv 2403.06963; the loss is theirs,
mean over i of -log p(r_i | prompt, $ ... $). Prints the loss, and the shares of answers and of decisions (n2) that are
right on new graphs. Tokens near the goal come first, n2 last and late: in the library's runs 8 layers, a cosine
schedule over 24,000 steps solved G(2, 5) under three seeds of five so far.
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


def answer_logits(model, prompt):
    """Scores of all answer tokens at once: [B, P] -> [B, LENGTH, VOCAB]."""
    # "=" is prompt and predicts the start, so LENGTH tokens need LENGTH - 1 dummies. They differ by position alone.
    dummies = torch.full((len(prompt), LENGTH - 1), DUMMY)
    states = model(model.token_table(torch.cat((prompt, dummies), 1)))
    return model.logits(states[:, prompt.shape[1] - 1 :])


def loss(model, prompt, answer):
    """Mean cross entropy of the answer's tokens, none of which is read."""
    return functional.cross_entropy(answer_logits(model, prompt).flatten(0, 1), answer.flatten())


@torch.no_grad()
def generate(model, prompt):
    """The likeliest token at each place, in one pass. To feed tokens back would be another input than in training."""
    return answer_logits(model, prompt).argmax(-1)


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
