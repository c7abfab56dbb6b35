# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Multi-token prediction: parallel heads on one trunk predict the next AHEAD tokens from every position.

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. The last positions of the prompt predict answer tokens too, with none of the answer known to
them, so n2 is also learned where nothing can be copied. Gloeckle et al. 2024, arXiv 2404.19737: head j gives p(x_t+j |
x_1 ... x_t), head 1 is next-token's; the paper sums plainly, here the further heads count together as much as the
first, so that look-ups are not delayed. Prints the loss, and the shares of answers and of decisions (n2) that are right
on new graphs. Look-ups come first; with 4 attention heads the library solved four seeds of ten.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 2e-3
AHEAD = 4  # heads


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
    """A trunk and AHEAD heads; the output head, the token table once more, is shared."""

    def __init__(self):
        super().__init__()
        self.token_table = nn.Embedding(VOCAB, WIDTH)
        layer = Layer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.trunk = nn.TransformerEncoder(layer, LAYERS - 1, enable_nested_tensor=False)
        # Each head is one layer with a norm, so that every path is as deep as a network without heads.
        heads = [nn.TransformerEncoder(layer, 1, nn.LayerNorm(WIDTH), False) for _ in range(AHEAD)]
        self.heads = nn.ModuleList(heads)

    def forward(self, x, heads=None):
        """Inputs [B, T, WIDTH] -> final states [B, T, WIDTH] of each head, or of the first ``heads`` of them."""
        trunk = self.trunk(x)
        return [head(trunk) for head in self.heads[:heads]]

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer):
    """The first head's mean cross entropy of the answer's tokens, plus the mean over the further heads of theirs."""
    inputs, first = torch.cat((prompt, answer[:, :-1]), 1), prompt.shape[1]  # [B, P + LENGTH - 1]
    total = 0.0
    for ahead, states in enumerate(model(model.token_table(inputs)), start=1):
        # The target decides what counts, not the source: head j predicts the answer from places P - j on. To ask only
        # positions within the answer would leave out exactly those that do not know it.
        logits = model.logits(states[:, first - ahead : first - ahead + LENGTH])
        weight = 1 if ahead == 1 else 1 / (AHEAD - 1)
        total += weight * functional.cross_entropy(logits.flatten(0, 1), answer.flatten())
    return total


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers by the first head alone, one token at a time: [B, P] -> [B, LENGTH]."""
    tokens = prompt
    for _ in range(LENGTH):
        (states,) = model(model.token_table(tokens), heads=1)
        tokens = torch.cat((tokens, model.logits(states[:, -1:]).argmax(-1)), 1)
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
