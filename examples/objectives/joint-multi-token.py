# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Joint multi-token prediction: one state must predict several tokens, each given the ones before it (JTP).

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. A small attention ("fetch") sees one state and the tokens revealed after it, never the prompt. So
the state must hold whatever any continuation needs: a belief. Ahn, Lamb & Langford 2025, arXiv 2503.21801, as NextLat's
code has it. Prints the loss, and the shares of answers and of decisions (n2) that are right on new graphs. With 2
heads the library's run solved at 4,700, with 4 ten of ten did, at 1,200 to 5,100.
"""

import argparse

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
        self.combine_norm, self.fetch_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, FETCH_HEADS, bias=False, batch_first=True)
        self.state_weight = nn.Parameter(torch.tensor([0.1]))  # gamma
        self.bias_table = nn.Parameter(torch.zeros(FETCH_HEADS, HORIZON + 1, HORIZON + 1))

    def fetch(self, states, revealed):
        """[B, T, WIDTH], and embeddings [B, T, K, WIDTH] of x_t and the K - 1 after -> scores [B, T, K, VOCAB]."""
        slots = self.combine_norm(revealed + self.state_weight * states[:, :, None]).flatten(0, 1)  # [B * T, K, WIDTH]
        steps = torch.arange(slots.shape[1])
        bias = self.bias_table[:, : len(steps), : len(steps)].masked_fill(steps > steps[:, None], -torch.inf)
        fetched, _ = self.attention(slots, slots, slots, attn_mask=bias.repeat(len(slots), 1, 1), need_weights=False)
        # Further slots get the state once more; slot 0, which decoding uses, must do with what it fetched.
        states = self.fetch_norm(fetched.view_as(revealed) + states[:, :, None] * (steps > 0)[:, None])
        return states @ self.token_table.weight.T


def loss(model, prompt, answer):
    """Slot 0's loss plus the mean of the further slots', slot k predicting x_t+1+k from h_t and x_t ... x_t+k."""
    x, first = model.token_table(torch.cat((prompt, answer[:, :-1]), 1)), prompt.shape[1]
    revealed = functional.pad(x, (0, 0, 0, HORIZON)).unfold(1, HORIZON + 1, 1).mT  # beyond the end zeros, never read
    scores = model.fetch(model.layers(x), revealed)
    wanted = [scores[:, first - 1 - slot :, slot][:, :LENGTH] for slot in range(HORIZON + 1)]
    losses = [functional.cross_entropy(each.flatten(0, 1), answer.flatten()) for each in wanted]
    return losses[0] + sum(losses[1:]) / HORIZON


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers by slot 0, whose fetch stays: [B, P] -> [B, LENGTH]."""
    tokens = prompt
    for _ in range(LENGTH):
        x = model.token_table(tokens)
        scores = model.fetch(model.layers(x)[:, -1:], x[:, -1:, None])[:, :, 0]
        tokens = torch.cat((tokens, scores.argmax(-1)), 1)
    return tokens[:, prompt.shape[1] :]


def main(steps):
    """Trains, on new graphs at every step."""
    torch.manual_seed(0)
    rng, model = torch.Generator().manual_seed(0), Model()
    for weight in (each for each in model.parameters() if each.dim() == 2):
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
