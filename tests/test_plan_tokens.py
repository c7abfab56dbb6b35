"""Planning tokens: where they stand, what teaches them, where gradients stop, and what is dropped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from support import SMALL, VOCAB, Stub, build, random_batch, right_padded, scramble
from torch import Tensor
from torch.nn import functional

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.plan_tokens import Autoencoder, PlanTokens

TRANSFORMER = next(iter(SMALL))
ROTARY = list(SMALL)[1]


def rng(seed: int = 0) -> torch.Generator:
    return seeds.torch_stream("objective", seed)


def made_on(backbone: str = TRANSFORMER, options: str = "", scrambled: bool = True) -> PlanTokens:
    made = build(f"plan-tokens{options}", backbone)
    assert isinstance(made, PlanTokens)
    if scrambled:
        scramble(made)
    return made


def ragged(padding: int = 0) -> tuple[Batch, list[Batch]]:
    """Rows of differing lengths, together and one by one."""
    shapes = [(3, 4), (6, 2), (4, 4), (3, 1)]
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate(shapes)]
    return right_padded(rows, padding), rows


# The loss by plain loops on the smallest example: two symbols, an answer of three, width two, two planning tokens.

Vector = list[float]


def linear(weight: Tensor, x: Vector, bias: Tensor | None = None) -> Vector:
    added = [0.0] * len(weight) if bias is None else bias.tolist()
    return [
        sum(w * value for w, value in zip(row, x, strict=True)) + b
        for row, b in zip(weight.tolist(), added, strict=True)
    ]


def normed(x: Vector, weight: Tensor, bias: Tensor) -> Vector:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((value - mean) ** 2 for value in x) / len(x) + 1e-5)
    return [(value - mean) / spread * w + b for value, w, b in zip(x, weight.tolist(), bias.tolist(), strict=True)]


def nats(logits: Vector, target: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def codes_by_loops(autoencoder: Autoencoder, read: Sequence[Vector]) -> list[Vector]:
    """z_k of an answer's states, with one head."""
    width = len(read[0])
    found: list[Vector] = []
    into, into_bias = autoencoder.keys_values_in, autoencoder.keys_values_in_bias
    both = [linear(into, state, into_bias) for state in read]
    for start in autoencoder.query_table.tolist():
        norm = autoencoder.query_norm
        query = linear(autoencoder.queries_in, normed(start, norm.weight, norm.bias), autoencoder.queries_in_bias)
        scores = [sum(q * k for q, k in zip(query, pair[:width], strict=True)) / math.sqrt(width) for pair in both]
        largest = max(scores)
        shares = [math.exp(score - largest) for score in scores]
        mixed = [
            sum(share / sum(shares) * pair[width + axis] for share, pair in zip(shares, both, strict=True))
            for axis in range(width)
        ]
        out = linear(autoencoder.attention_out, mixed, autoencoder.attention_out_bias)
        residual = [a + b for a, b in zip(start, out, strict=True)]
        found.append(
            linear(autoencoder.to_code, normed(residual, autoencoder.code_norm.weight, autoencoder.code_norm.bias))
        )
    return found


def test_loss_by_hand() -> None:
    """Prompt a, answer b b a. The stub's states are its inputs: one-hot for symbols, learned for planning tokens."""
    after = torch.tensor([[0.2, 1.3], [0.9, -0.4]])
    made = PlanTokens(Stub(after, "token"), Vocabulary(("a", "b")), rng(), tokens=2, dimensions=3, alpha=0.5, beta=2.0)
    autoencoder, to_plan = made.autoencoder, made.to_plan
    assert autoencoder is not None
    assert to_plan is not None
    autoencoder.decoder = Stub(after, "token")
    scramble(made, 0.7)
    with torch.no_grad():
        to_plan.mul_(3)  # so that some gaps are on the straight part of the smooth L1
    table: Tensor = made.backbone.table  # type: ignore[assignment]  # the stub's

    def logits(state: Vector) -> Vector:
        return linear(table.T, state)

    states = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    plan = made.plan_table.tolist()
    terms = [nats(logits(plan[1]), 1), nats(logits(states["b"]), 1), nats(logits(states["b"]), 0)]
    codes = codes_by_loops(autoencoder, [states["b"], states["b"], states["a"]])
    apart = [
        guess - code
        for state, target in zip(plan, codes, strict=True)
        for guess, code in zip(linear(to_plan, state), target, strict=True)
    ]
    missed = sum(0.5 * gap**2 if abs(gap) < 1 else abs(gap) - 0.5 for gap in apart) / 6
    prefix = linear(autoencoder.from_code, codes[1], autoencoder.from_code_bias)
    rebuilt = [nats(logits(prefix), 1), nats(logits(states["b"]), 1), nats(logits(states["b"]), 0)]

    out = made.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    assert out.per_token[0].tolist() == pytest.approx([0.0, *terms], rel=1e-4)
    assert out.parts["next-token"].item() == pytest.approx(sum(terms) / 3, rel=1e-4)
    assert out.parts["plan"].item() == pytest.approx(0.5 * missed, rel=1e-4)
    assert out.parts["reconstruction"].item() == pytest.approx(2.0 * sum(rebuilt) / 3, rel=1e-4)
    assert any(abs(gap) > 1 for gap in apart)
    assert any(abs(gap) < 1 for gap in apart)


def test_on_a_transformer_codes_are_those_of_plain_loops() -> None:
    """The encoder is the backbone on the answer alone, from position 0; padding behind it is not read."""
    made, (batch, rows) = made_on(), ragged(padding=12)
    assert made.autoencoder is not None
    assert made.autoencoder.heads == 1
    codes: list[Tensor] = []
    made.autoencoder.register_forward_hook(lambda _module, _inputs, out: codes.append(out[0]))
    made.loss(batch, rng())
    for number, row in enumerate(rows):
        read = made.backbone(made.backbone.embed(row.answers))[0].tolist()
        torch.testing.assert_close(
            codes[0][number], torch.tensor(codes_by_loops(made.autoencoder, read)), rtol=1e-3, atol=1e-4
        )


# Where everything stands.


def test_planning_tokens_stand_between_prompt_and_answer() -> None:
    made, (batch, rows) = made_on(), ragged()
    inputs: list[Tensor] = []
    made.backbone.register_forward_pre_hook(lambda _module, given: inputs.append(given[0].detach()))
    made.loss(batch, rng())
    with torch.no_grad():
        for number, row in enumerate(rows):
            prompt, answer = (made.backbone.embed(part)[0] for part in (row.prompts, row.answers))
            expected = torch.cat((prompt, made.plan_table, answer))[: inputs[0].shape[1]]
            assert torch.equal(inputs[0][number, : len(expected)], expected)
    assert inputs[0].shape[1] == 8 + 4 - 1


@pytest.mark.parametrize("backbone", [TRANSFORMER, ROTARY, "recurrent"])
def test_the_answer_is_predicted_from_its_own_places(backbone: str) -> None:
    made, batch = made_on(backbone), random_batch()
    embed, plan = made.backbone.embed, made.plan_table.expand(16, -1, -1)
    states = made.backbone(torch.cat((embed(batch.prompts), plan, embed(batch.answers)), 1))
    logits = made.backbone.logits(states[:, 6 + 4 - 1 : -1])
    expected = functional.log_softmax(logits, -1)
    torch.testing.assert_close(made.forced(batch), expected)
    losses = functional.cross_entropy(logits.transpose(1, 2), batch.answers, reduction="none")
    out = made.loss(batch, rng())
    torch.testing.assert_close(out.per_token[:, 6:], losses.detach())
    torch.testing.assert_close(out.parts["next-token"], losses.mean())


@pytest.mark.parametrize("padding", [0, 12])
def test_each_part_averages_over_its_own_things(padding: int) -> None:
    """Next-token and reconstruction over answer tokens, the plan over rows."""
    made, (batch, rows) = made_on(), ragged(padding)
    together, alone = made.loss(batch, rng()), [made.loss(row, rng()) for row in rows]
    for part, weights in {"next-token": (4, 2, 4, 1), "reconstruction": (4, 2, 4, 1), "plan": (1, 1, 1, 1)}.items():
        mean = sum(w * out.parts[part] for w, out in zip(weights, alone, strict=True)) / sum(weights)
        torch.testing.assert_close(together.parts[part], torch.as_tensor(mean))


def test_a_row_without_an_answer_teaches_nothing() -> None:
    made, rows = made_on(), [random_batch(1, 5, 3), random_batch(1, 3, 0, seed=1)]
    with_empty, without = made.loss(right_padded(rows, 0), rng()), made.loss(rows[0], rng())
    for name, part in with_empty.parts.items():
        torch.testing.assert_close(part, without.parts[name])
    gradients = torch.autograd.grad(with_empty.total, list(made.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


# Leaks and gradients.


def test_planning_states_see_the_prompt_and_nothing_of_the_answer() -> None:
    made, batch = made_on(), random_batch()
    before = made._read(batch)[0]
    for column in range(-6, 4):
        tokens = batch.tokens.clone()
        tokens[:, 6 + column] = (tokens[:, 6 + column] + 1) % 10
        after = made._read(dataclasses.replace(batch, tokens=tokens))[0]
        changed = (before != after).any(-1)
        assert changed.all() if column < 0 else not changed.any()


def test_codes_are_shaped_by_the_reconstruction_alone() -> None:
    made = made_on()
    assert made.autoencoder is not None
    out = made.loss(random_batch(), rng())
    own = list(made.autoencoder.parameters())
    torch.autograd.backward(out.parts["plan"], retain_graph=True)
    assert all(parameter.grad is None for parameter in own)
    torch.autograd.backward(out.parts["reconstruction"])
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in own)


@pytest.mark.parametrize("backbone", [TRANSFORMER, ROTARY])
def test_the_reconstruction_reaches_the_backbone_by_its_token_table_and_head_alone(backbone: str) -> None:
    made = made_on(backbone)
    torch.autograd.backward(made.loss(random_batch(), rng()).parts["reconstruction"])
    reached = {name for name, parameter in made.named_parameters() if parameter.grad is not None}
    tables = {"backbone.token_table"} if backbone == TRANSFORMER else {"backbone.token_table", "backbone.head"}
    assert {name for name in reached if not name.startswith("autoencoder")} == tables


def test_what_is_planned_teaches_the_backbones_layers() -> None:
    made = made_on()
    part = made.loss(random_batch(), rng()).parts["plan"]
    wanted = ("backbone.blocks", "plan_table", "to_plan")
    chosen = [parameter for name, parameter in made.named_parameters() if name.startswith(wanted)]
    assert all(gradient.any() for gradient in torch.autograd.grad(part, chosen))


def test_gradients_survive_mixed_precision() -> None:
    """Weights that are cast within the pass without gradients must not lose theirs."""
    made, batch = made_on(scrambled=False), random_batch()
    parameters = list(made.parameters())
    exact = torch.autograd.grad(made.loss(batch, rng()).total, parameters)
    with torch.autocast("cpu", torch.bfloat16):
        total = made.loss(batch, rng()).total
    rough = torch.autograd.grad(total, parameters)
    exact_flat, rough_flat = (torch.cat([each.flatten() for each in gradients]) for gradients in (exact, rough))
    assert functional.cosine_similarity(exact_flat, rough_flat, 0) > 0.99
    assert all(gradient.any() for gradient in rough)


# Decoding.


@pytest.mark.parametrize("backbone", [TRANSFORMER, ROTARY, "recurrent"])
def test_decoding_is_greedy_after_the_planning_tokens(backbone: str) -> None:
    """Against whole passes, one a token; and an answer that is begun is continued by ``continue_answer``."""
    made, prompts = made_on(backbone), random_batch().prompts
    with torch.no_grad():
        embed, plan = made.backbone.embed, made.plan_table.expand(16, -1, -1)
        answer = prompts[:, :0]
        for _ in range(4):
            states = made.backbone(torch.cat((embed(prompts), plan, embed(answer)), 1))
            answer = torch.cat((answer, made.backbone.logits(states[:, -1:]).argmax(-1)), 1)
        assert torch.equal(made.generate(prompts, 4), answer)
        for begun in range(4):
            assert torch.equal(made.continue_answer(prompts, answer[:, :begun], 4 - begun), answer[:, begun:])
        assert made.continue_answer(prompts, answer, 0).shape == (16, 0)


def test_what_is_dropped_changes_no_output() -> None:
    made, batch = made_on(), random_batch()
    with torch.no_grad():
        wrote, forced = made.generate(batch.prompts, 4), made.forced(batch)
        made.autoencoder, made.to_plan = None, None
        assert torch.equal(made.generate(batch.prompts, 4), wrote)
        assert torch.equal(made.forced(batch), forced)


# Size and options.


def count(parameters: Sequence[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize(("tokens", "dimensions"), [(4, 32), (2, 5)])
def test_parameters_by_formula(tokens: int, dimensions: int) -> None:
    made = made_on(options=f":tokens={tokens},dimensions={dimensions}")
    width, table = 32, made.backbone.token_table
    assert isinstance(table, Tensor)
    twin = count(list(made.backbone.parameters())) - table.numel()
    own = 2 * tokens * width + 4 * width + 4 * width * (width + 1) + dimensions * 3 * width + width
    assert count(list(made.parameters())) == count(list(made.backbone.parameters())) + twin + own
    assert made.vocab == VOCAB


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (64, 1), (128, 2), (384, 6), (100, 1)])
def test_heads_have_64_dimensions_where_they_fit(width: int, heads: int) -> None:
    stub = Stub(torch.zeros(width, 3), "token")
    assert Autoencoder(stub, rng(), 2, 4).heads == heads


def test_alpha_zero_leaves_the_planning_tokens_alone() -> None:
    made, batch = made_on(options=":alpha=0"), random_batch()
    assert count(list(made.parameters())) == count(list(made.backbone.parameters())) + 4 * 32
    out = made.loss(batch, rng())
    assert list(out.parts) == ["next-token"]
    assert all(gradient.any() for gradient in torch.autograd.grad(out.total, list(made.parameters())))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("tokens=0", r"^plan-tokens: tokens=0 must be at least 1$"),
        ("dimensions=-1", r"^plan-tokens: dimensions=-1 must be at least 1$"),
        ("alpha=-0.5", r"^plan-tokens: alpha=-0.5 must be at least 0 and finite$"),
        ("alpha=nan", r"^plan-tokens: alpha=nan must be at least 0 and finite$"),
        ("beta=0", r"^plan-tokens: beta=0.0 must be above 0 and finite, or what is planned collapses$"),
        ("beta=inf", r"^plan-tokens: beta=inf must be above 0 and finite"),
    ],
)
def test_impossible_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build(f"plan-tokens:{options}", TRANSFORMER)


def test_a_sequence_that_no_longer_fits_is_refused_by_its_true_length() -> None:
    """28 tokens of 32 are shown, and 8 planning tokens."""
    made, batch = made_on(options=":tokens=8"), random_batch(4, 25, 4)
    with pytest.raises(RequestError, match="a sequence of 36 tokens does not fit context=32"):
        made.loss(batch, rng())
