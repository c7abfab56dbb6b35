# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Masked diffusion: answer tokens masked at random are restored, and decoding fills in the surest first.

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. Over the draws every set of known tokens occurs, so no order of deciding is built in, and the
easy end of the arm can come first. MLM-U (Kitouni et al. 2024, arXiv 2406.05183): masked at a rate ~ U(0, 1), the mean
over a row's masked tokens. MDLM (Sahoo et al. 2024) weighs each by 1/rate instead, a likelihood bound of the same
expectation and of more variance. Prints the loss, and the shares of answers and of decisions (n2) that are right on new
graphs. The loss leaves its first plateau late (in the library's run with 4 layers, at 2,400 steps of 256 rows).
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


class Model(nn.Module):
    """A Transformer without a causal mask; its output head is the token table once more."""

    def __init__(self):
        super().__init__()
        self.token_table, self.position_table = nn.Embedding(VOCAB, WIDTH), nn.Embedding(64, WIDTH)
        # Pre-norm: x += attention(norm(x)); x += mlp(norm(x)). No dropout, which hurts exact look-ups.
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, x):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH]; every place reads every other."""
        return self.layers(x + self.position_table(torch.arange(x.shape[1])))

    def logits(self, states):
        return states @ self.token_table.weight.T


def answer_logits(model, prompt, answer):
    """Scores [B, LENGTH, VOCAB] of each answer token at its own place, not one before it as in next-token training."""
    logits = model.logits(model(model.token_table(torch.cat((prompt, answer), 1)))[:, prompt.shape[1] :])
    return logits.masked_fill(torch.arange(VOCAB) == MASK, -torch.inf)  # a mask is never the answer


def loss(model, prompt, answer, rng):
    """Mean over rows of the mean loss of their masked tokens. The prompt is never masked."""
    draws, share = torch.rand(answer.shape, generator=rng), torch.rand(len(answer), 1, generator=rng)
    # Rows without a mask have no mean and are drawn again, which makes the number uniform on 1 to LENGTH.
    number = (share * LENGTH).long() + 1
    masked = draws.argsort(1).argsort(1) < number  # any ``number`` of them alike
    logits = answer_logits(model, prompt, answer.masked_fill(masked, MASK))
    losses = functional.cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none").view_as(answer)
    return ((losses * masked).sum(1, keepdim=True) / number).mean()


@torch.no_grad()
def generate(model, prompt):
    """From masks alone, one place a pass: the one whose likeliest token is the surest. [B, P] -> [B, LENGTH]."""
    answer = torch.full((len(prompt), LENGTH), MASK)
    for _ in range(LENGTH):
        confidence, token = answer_logits(model, prompt, answer).softmax(-1).max(-1)
        place = confidence.masked_fill(answer != MASK, -1.0).argmax(1, keepdim=True)
        answer = answer.scatter(1, place, token.gather(1, place))
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
