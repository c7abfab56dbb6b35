# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Next-latent prediction: states from which a small network can tell the next states (NextLat).

The prompt lists the edges of a star of arms in random order and names the end of one arm; the answer is the path to it:
`u,v|u,v|.../start,goal=` and `start,n2,n3,n4,goal` (one token a node). The small network reads a state and the true
next token and must give the *next state*, HORIZON steps on from its own guesses. So a state must be a summary from
which later ones follow. Teoh et al. 2025, arXiv 2511.05963: next-token's loss + smooth L1 of states + KL of their
heads.

Printed every 50 steps, on new graphs: the loss, and the share of answers and of decisions (n2) that are right: at 1/2
until step 2,000 in the library's run (rotary positions); the paper trains 20,000 steps and some seeds fail.
"""

import argparse
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 1e-3
HORIZON = 3


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
        # From [next token's embedding; state] to the change of the state; dropped at decoding.
        first, second, third = (nn.Linear(n, m, bias=False) for n, m in ((2 * WIDTH, 128), (128, 128), (128, WIDTH)))
        norm = nn.LayerNorm(2 * WIDTH, bias=False)
        self.dynamics = nn.Sequential(norm, first, nn.GELU(), second, nn.GELU(), third)

    def forward(self, x):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH], each of what is read up to there."""
        steps = torch.arange(x.shape[1])
        return self.layers(x + self.position_table(steps), mask=steps > steps[:, None])  # True: must not be read

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer):
    """Next-token's loss, the distance of rolled states and the divergence of what the head makes of them."""
    x, first = model.token_table(torch.cat((prompt, answer[:, :-1]), 1)), prompt.shape[1]
    rolled = states = model(x)
    logits = model.logits(states[:, first - 1 :])  # [B, LENGTH, VOCAB]
    total = functional.cross_entropy(logits.flatten(0, 1), answer.flatten())
    # Three stops of gradients: targets must not move towards the guesses, or states collapse, and the divergence must
    # not reach the head, or the head takes up the error.
    expected, head = logits.detach().log_softmax(-1), model.token_table.weight.detach()
    for step in range(1, HORIZON + 1):
        rolled = rolled[:, :-1] + model.dynamics(torch.cat((x[:, step:], rolled[:, :-1]), -1))
        # These are guesses of states step, step + 1, ...; the prompt's count for the distance, not for the divergence.
        latent = functional.smooth_l1_loss(rolled, states[:, step:].detach())
        guessed = (rolled[:, first - 1 - step :] @ head.T).log_softmax(-1)
        divergence = functional.kl_div(guessed, expected, reduction="none", log_target=True).sum(-1).mean()
        total = total + (latent + divergence) / HORIZON
    return total


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
