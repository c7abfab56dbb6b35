# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Insertion language model: tokens are inserted anywhere, place and token chosen together (ILM).

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. A random part of the answer is dropped and what is left moves together. The state of each token
left says what to insert right after it; nothing shows where tokens are missing. Patel et al. 2025, arXiv 2505.05755, as
its code builds it: one softmax over all places and symbols, and a classifier that says whether anything is missing (not
needed where the length is given). Prints the loss, and the shares of answers and of decisions (n2) that are right on
new graphs. The paper's star graphs: 100, 100 and 99.1 % right where next-token has 32.3, 75.0 and 23.0.
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
    """A Transformer without a causal mask; its output head is the token table once more."""

    def __init__(self):
        super().__init__()
        self.token_table, self.position_table = nn.Embedding(VOCAB, WIDTH), nn.Embedding(64, WIDTH)
        # Pre-norm: x += attention(norm(x)); x += mlp(norm(x)). No dropout, which hurts exact look-ups.
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.stop_head = nn.Linear(WIDTH, 1, bias=False)

    def forward(self, x, padding=None):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH]; every place reads every other but padding [B, T]."""
        return self.layers(x + self.position_table(torch.arange(x.shape[1])), src_key_padding_mask=padding)

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer, rng):
    """Mean over rows of the mean loss of their dropped tokens, plus the classifier's."""
    number = (torch.rand(len(answer), 1, dtype=torch.float64, generator=rng) * (LENGTH + 1)).long()  # 0 to LENGTH
    dropped = torch.rand(answer.shape, generator=rng).argsort(1).argsort(1) < number  # any ``number`` of them alike
    left = answer.gather(1, dropped.int().argsort(dim=1, stable=True))  # those left first, in order
    places = torch.arange(prompt.shape[1] + LENGTH)
    padding = places >= len(places) - number  # the dropped ones, which nobody may read
    states = model(model.token_table(torch.cat((prompt, left), 1)), padding)[:, prompt.shape[1] - 1 :]
    # "=" stands for the place before the answer, so there are LENGTH + 1 places where a token may be inserted.
    logits = model.logits(states).masked_fill(padding[:, prompt.shape[1] - 1 :, None], -torch.inf)
    log_probs = logits.flatten(1).log_softmax(-1)  # over all places and symbols together
    place = (~dropped).cumsum(1)  # of each dropped token: how many of those before it are left
    losses = -log_probs.gather(1, place * VOCAB + answer).masked_fill(~dropped, 0.0)
    missing = model.stop_head(states[:, 0])  # "=" reads everything
    stop = functional.binary_cross_entropy_with_logits(missing, (number > 0).float())
    return (losses.sum(1, keepdim=True) / number.clamp(min=1)).mean() + stop


@torch.no_grad()
def generate(model, prompt):
    """The likeliest pair of place and token, inserted LENGTH times: [B, P] -> [B, LENGTH]."""
    answer = prompt[:, :0]
    for size in range(LENGTH):
        states = model(model.token_table(torch.cat((prompt, answer), 1)))[:, prompt.shape[1] - 1 :]
        best = model.logits(states).flatten(1).argmax(1, keepdim=True)
        place, token, at = best // VOCAB, best % VOCAB, torch.arange(size + 1)
        moved = functional.pad(answer, (0, 1)).gather(1, at - (at > place).long())  # later tokens move on by one
        answer = torch.where(at == place, token, moved)
    return answer


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
