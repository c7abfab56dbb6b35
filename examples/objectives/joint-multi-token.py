# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Joint multi-token prediction: one state must predict several tokens, each given the ones before it (JTP).

The prompt lists the edges of a star of arms in random order and names the end of one arm; the answer is the path to it:
`u,v|u,v|.../start,goal=` and `start,n2,n3,n4,goal` (one token a node). A small attention ("fetch") sees one state and
the tokens revealed after it, never the prompt. So the state must hold whatever any continuation needs: a belief. Ahn,
Lamb & Langford 2025, arXiv 2503.21801, as the NextLat repository builds it.

Printed every 50 steps, on new graphs: the loss, and the share of answers and of decisions (n2) that are right: in the
library's run (rotary positions) n2 leaves 1/2 at step 2,000 and is at 0.83 by 2,400.
"""

import argparse
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 1e-3
HORIZON, FETCH_HEADS = 3, 4


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
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        # The fetch: one attention with a learned bias for each head and pair of slots, no MLP.
        self.combine_norm, self.fetch_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, FETCH_HEADS, bias=False, batch_first=True)
        self.state_weight = nn.Parameter(torch.tensor([0.1]))  # gamma
        self.bias_table = nn.Parameter(torch.zeros(FETCH_HEADS, HORIZON + 1, HORIZON + 1))

    def forward(self, x):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH], each of what is read up to there."""
        steps = torch.arange(x.shape[1])
        return self.layers(x + self.position_table(steps), mask=steps > steps[:, None])  # True: must not be read

    def logits(self, states):
        return states @ self.token_table.weight.T

    def fetch(self, states, revealed):
        """[B, T, WIDTH], and embeddings [B, T, K, WIDTH] of x_t and the K - 1 after -> [B, T, K, WIDTH]."""
        slots = self.combine_norm(revealed + self.state_weight * states[:, :, None]).flatten(0, 1)  # [B * T, K, WIDTH]
        steps = torch.arange(slots.shape[1])
        bias = self.bias_table[:, : len(steps), : len(steps)].masked_fill(steps > steps[:, None], -torch.inf)
        fetched, _ = self.attention(slots, slots, slots, attn_mask=bias.repeat(len(slots), 1, 1), need_weights=False)
        # Further slots get the state once more; slot 0, which decoding uses, must do with what it fetched.
        return self.fetch_norm(fetched.view_as(revealed) + states[:, :, None] * (steps > 0)[:, None])


def loss(model, prompt, answer):
    """Slot 0's loss plus the mean of the further slots', slot k predicting x_t+1+k from h_t and x_t ... x_t+k."""
    x, first = model.token_table(torch.cat((prompt, answer[:, :-1]), 1)), prompt.shape[1]
    # Beyond the end are zeros, which no slot with a target reads (token 0 there would be a real node).
    revealed = functional.pad(x, (0, 0, 0, HORIZON)).unfold(1, HORIZON + 1, 1).mT  # [B, T, K, WIDTH]
    slots, total = model.fetch(model(x), revealed), 0.0
    for slot in range(HORIZON + 1):
        logits = model.logits(slots[:, first - 1 - slot :, slot][:, :LENGTH])
        total += functional.cross_entropy(logits.flatten(0, 1), answer.flatten()) * (1 / HORIZON if slot else 1)
    return total


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers by slot 0, whose fetch stays: [B, P] -> [B, LENGTH]."""
    tokens = prompt
    for _ in range(LENGTH):
        x = model.token_table(tokens)
        slot = model.fetch(model(x)[:, -1:], x[:, -1:, None])[:, :, 0]
        tokens = torch.cat((tokens, model.logits(slot).argmax(-1)), 1)
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
    parser.add_argument("--steps", type=int, default=2400)
    main(parser.parse_args().steps)
