# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Registers: extra inputs that each predict a token further ahead, and that nobody else reads (MuToR).

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. A learned register stands after "=" and after each answer token. It reads what that token reads
and predicts the token `offset` places on, from the position before its target. An offset of 1 would be next-token's
look-up again, so 2 is the least: Gerontopoulos, Gidaris & Komodakis 2025, arXiv 2505.10518, star graphs in appendix
A.3. Prints the loss, and the shares of answers and of decisions (n2) that are right on new graphs. n2 was at 1/2 after
6,000 steps in the library's runs from scratch; the paper fine-tunes GPT-2 large.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 2e-3
MAX_OFFSET, WEIGHT = 4, 0.5


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
        self.register_table = nn.Parameter(torch.empty(1, WIDTH))

    def forward(self, x, mask=None, positions=None):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH]; causal and in order unless told otherwise."""
        steps = torch.arange(x.shape[1])
        mask = steps > steps[:, None] if mask is None else mask  # [T, T], True: the row must not read the column
        return self.layers(x + self.position_table(steps if positions is None else positions), mask=mask)

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer, rng):
    """(1 - WEIGHT) next-token's loss + WEIGHT times the mean loss of the registers that have a target."""
    tokens, first = torch.cat((prompt, answer), 1), prompt.shape[1]
    length, rows = tokens.shape[1] - 1, len(tokens)  # the last token is predicted and never read
    after = first - 1 + torch.arange(LENGTH - 1)  # the place of the token that each register comes after
    target = after + torch.randint(2, MAX_OFFSET + 1, (rows, 1), generator=rng)  # [B, LENGTH - 1], one offset a row
    exists = target <= length
    # Registers are appended: mask and positions say where they belong. No token reads them, nor they each other.
    x = torch.cat((model.token_table(tokens[:, :-1]), model.register_table.expand(rows, LENGTH - 1, -1)), 1)
    reads_up_to = torch.cat((torch.arange(length), after))
    steps = torch.arange(x.shape[1])
    mask = (steps > reads_up_to[:, None]) & (steps != steps[:, None])
    positions = torch.cat((torch.arange(length).expand(rows, -1), (target - 1).clamp(max=length - 1)), 1)
    logits = model.logits(model(x, mask, positions)[:, first - 1 :])  # LENGTH for the tokens, then the registers'
    plain = functional.cross_entropy(logits[:, :LENGTH].flatten(0, 1), answer.flatten())
    wanted = tokens.gather(1, target.clamp(max=length))
    ahead = functional.cross_entropy(logits[:, LENGTH:][exists], wanted[exists])
    return (1 - WEIGHT) * plain + WEIGHT * ahead


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
