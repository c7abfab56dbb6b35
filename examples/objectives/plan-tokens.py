# /// script
# requires-python = ">=3.11"
# dependencies = ["torch", "numpy"]
# ///
"""Planning tokens: learned inputs after the prompt, whose states are taught the whole answer (Semformer).

Prompt: the shuffled edges of a star of arms and the end of one arm, `u,v|u,v|.../start,goal=`; answer: the path to it,
`start,n2,n3,n4,goal`. PLAN vectors stand between prompt and answer; their states are pulled towards codes that an
autoencoder makes of the answer: Yin et al. 2024, arXiv 2409.11143. Prints the loss, and the shares of answers and of
decisions (n2) that are right on new graphs.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

DEGREE, LENGTH, NODES = 2, 5, 50  # G(2, 5): two arms of five nodes, the centre included, labelled from 0..49
BAR, EQUALS, SLASH, DUMMY, VOCAB = range(NODES, NODES + 5)  # "|", "=", "/", "$", and how many tokens there are
WIDTH, HEADS, LAYERS, RATE = 128, 2, 6, 2e-3
PLAN, CODE, CROSS = 4, 32, 2  # planning tokens, dimensions of a code, heads of the attention that makes codes


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
    """The language model, its planning tokens, and the autoencoder that decoding drops."""

    def __init__(self):
        super().__init__()
        layer = Layer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        encoders = [nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), False) for _ in range(2)]
        self.token_table, (self.backbone, self.decoder) = nn.Embedding(VOCAB, WIDTH), encoders
        self.plan_table, self.query_table = (nn.Parameter(torch.empty(PLAN, WIDTH)) for _ in range(2))
        self.to_plan, self.to_code = (nn.Linear(WIDTH, CODE, bias=False) for _ in range(2))
        self.query_norm, self.code_norm = (nn.LayerNorm(WIDTH) for _ in range(2))
        self.from_code, self.attention = nn.Linear(CODE, WIDTH), nn.MultiheadAttention(WIDTH, CROSS, batch_first=True)

    def forward(self, prompt, begun):
        """States [B, PLAN + A, WIDTH] of the planning tokens and of an answer begun [B, A] after them."""
        plan = self.plan_table.expand(len(prompt), -1, -1)
        x = torch.cat((self.token_table(prompt), plan, self.token_table(begun)), 1)
        return self.backbone(x)[:, prompt.shape[1] :]

    def logits(self, states):
        return states @ self.token_table.weight.T


def loss(model, prompt, answer):
    """Next-token's loss, the distance of plans from codes, and the reconstruction's loss."""
    states, x = model(prompt, answer[:, :-1]), model.token_table(answer)
    memory = model.backbone(x).detach()  # the language model reads the answer alone, and learns nothing by it
    queries = model.query_norm(model.query_table).expand(len(x), -1, -1)
    found, _ = model.attention(queries, memory, memory, need_weights=False)
    codes = model.to_code(model.code_norm(model.query_table + found))  # [B, PLAN, CODE]
    # Reconstruction alone shapes the codes, which keeps them from collapsing: as the plan's target they are constants.
    plan = functional.smooth_l1_loss(model.to_plan(states[:, :PLAN]), codes.detach())
    rebuilt = model.decoder(torch.cat((model.from_code(codes), x[:, :-1]), 1))
    both = torch.cat((states[:, PLAN - 1 :], rebuilt[:, PLAN - 1 :]))  # from the last planning token on
    return plan + 2 * functional.cross_entropy(model.logits(both).flatten(0, 1), answer.repeat(2, 1).flatten())


@torch.no_grad()
def generate(model, prompt):
    """Greedy answers after the planning tokens, which stay: [B, P] -> [B, LENGTH]."""
    answer = prompt[:, :0]
    for _ in range(LENGTH):
        answer = torch.cat((answer, model.logits(model(prompt, answer)[:, -1:]).argmax(-1)), 1)
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
