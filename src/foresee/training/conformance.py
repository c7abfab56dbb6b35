"""What parts of one's own must keep, tried on a few examples before anything is trained with them.

Whatever is broken is refused in one sentence, and a warning where it may be meant. Parts of this package are not tried:
the tests ask the same of them, and more.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy
import torch
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.backbones.capabilities import LENGTH
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.seeds import stream, torch_stream
from foresee.metrics.base import Subject, metrics
from foresee.metrics.measure import evaluation_mode, measure_one
from foresee.objectives.base import LossOut, Objective
from foresee.tasks.base import Task

ROWS = 8
CLOSE = 1e-3
"""How far two ways to compute final states, which are of order one, may lie apart."""


def is_own(part: type) -> bool:
    """Whether a class is not this package's."""
    return not part.__module__.startswith("foresee.")


def check_task(task: Task) -> None:
    """Raises ``RequestError`` where a task of one's own contradicts itself."""
    name = _kind(task)
    if not is_own(type(task)):
        return
    rows = task.group * max(1, ROWS // task.group)
    drawn: list[Any] = [task.sample(rows, stream("check", *key)) for key in ((), (), ("other",))]
    batch, again, other = drawn
    if not isinstance(batch, Batch):
        raise RequestError(f"{name}.sample must return a Batch (foresee.core.batch: Batch.of), not a {_kind(batch)}")
    if len(batch) != rows:
        raise RequestError(f"{name}.sample gives {len(batch)} rows where {rows} are asked for")
    pairs = list(batch.pairs())
    for prompt, answer in pairs:
        for what, tokens, most in (("prompt", prompt, task.prompt_length), ("answer", answer, task.answer_length)):
            if not 0 < len(tokens) <= most:
                raise RequestError(f"{name} declares {what}s of 1 to {most} tokens, but samples one of {len(tokens)}")
            if not 0 <= min(tokens) <= max(tokens) < len(task.vocab):
                raise RequestError(f"{name} samples {what} {tokens}, but its tokens are 0 to {len(task.vocab) - 1}")
    if not torch.equal(batch.tokens, again.tokens):
        raise RequestError(f"{name}.sample draws other examples from the same stream; draw from `rng` and nothing else")
    if torch.equal(batch.tokens, other.tokens):
        raise RequestError(f"{name}.sample draws the same examples from any stream; draw from `rng`")
    branch = batch.facts.get("branch")
    if branch is not None and bool(((branch < -1) | (branch >= batch.answer_len)).any()):
        raise RequestError(f"{name}: the fact 'branch' is {branch.tolist()}; it counts answer tokens from 0 (-1: none)")
    identity: Any = task.identity(batch)
    if not isinstance(identity, numpy.ndarray) or identity.dtype != numpy.uint64 or identity.shape != (rows,):
        raise RequestError(f"{name}.identity must give {rows} numpy.uint64, as foresee.core.fingerprints does")
    for prompt, answer in pairs[:: task.group]:
        shown = task.write_line(prompt, answer)
        for giver, given in (("sample", answer), ("solve", task.solve(prompt))):
            if not task.verify(prompt, given):
                raise RequestError(
                    f"{name}: verify refuses what {giver} gives for {shown!r}, {task.write_answer(given)!r}; sample, "
                    "solve and verify must agree"
                )
        if task.verify(prompt, []) or task.verify(prompt, [*answer, answer[-1]]):
            raise RequestError(f"{name}.verify accepts a wrong answer to {shown!r}: an empty one, or a token too many")
        if task.read_line(shown) != (prompt, answer):
            raise RequestError(f"{name}: the line {shown!r} is not read back as it was; see its TextForm")


def check_model(task: Task, objective: Objective, examples: Batch, steps: int) -> None:
    """Raises ``RequestError`` where an objective, backbone or metric of one's own breaks what the others rely on; warns
    where a loss reads what it predicts or leaves parameters out. ``examples`` are the run's test examples."""
    batch = examples.uniform_parts()[0][1].rows(slice(task.group * max(1, ROWS // task.group)))
    own_backbone, own_objective = is_own(type(objective.backbone)), is_own(type(objective))
    if own_backbone:
        with evaluation_mode(objective):
            _check_backbone(objective.backbone)
    if own_backbone or own_objective:
        objective.begin_step(0, steps)
        _check_loss(objective, batch)
    if own_objective:
        _warn_of_peeking(objective, batch)
        with evaluation_mode(objective):
            _check_decoding(objective, batch)
    if own := [each for each in metrics.names() if is_own(metrics.get(each))]:
        subject = Subject(task, objective, batch, None, partial(torch_stream, "check"))
        with evaluation_mode(objective):
            for metric in own:
                measure_one(metric, subject)


def _check_backbone(backbone: Backbone) -> None:
    name, shape = _kind(backbone), (ROWS, min(LENGTH, backbone.longest or LENGTH))
    tokens = torch.randint(backbone.vocab_size, shape, generator=torch_stream("check"))
    x = backbone.embed(tokens)
    _require_shape(f"{name}.embed", x, (*tokens.shape, backbone.width))
    whole = backbone(x)
    _require_shape(f"{name}.forward", whole, x.shape)
    _require_shape(f"{name}.logits", backbone.logits(whole), (*tokens.shape, backbone.vocab_size))
    kept = backbone(x, keep=slice(1, 3))
    _require_shape(f"{name}.forward with keep=slice(1, 3)", kept, whole[:, 1:3].shape)
    state, memory = backbone.start(x[:, :-2])
    _require_shape(f"{name}.start", state, whole[:, 0].shape)
    pairs = {"forward of one row alone": (backbone(x[:1]), whole[:1], "forward of all rows"),
             "forward with keep": (kept, whole[:, 1:3], "those columns without"),
             "start": (state, whole[:, -3], "forward")}  # fmt: skip
    for column in (-2, -1):
        state, memory = backbone.step(x[:, column], memory)
        pairs[f"step {3 + column} after start"] = state, whole[:, column], "forward"
    for what, (found, expected, where) in pairs.items():
        if not torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE):
            off = float((found - expected).abs().max())
            raise RequestError(f"{name}: {what} gives other states than {where}, by up to {off:.2g}")


def _check_loss(objective: Objective, batch: Batch) -> None:
    name = f"{_kind(objective)}.loss (on {_kind(objective.backbone)})"

    def compute() -> LossOut:
        given = replace(batch, tokens=batch.tokens.clone(), facts=_Hidden())
        found = objective.loss(given, torch_stream("check", "loss"))
        if not torch.equal(given.tokens, batch.tokens):
            raise RequestError(f"{name} changes the tokens of its batch; change a copy (masked_fill, clone)")
        return found

    out: Any = compute()
    if not isinstance(out, LossOut):
        raise RequestError(f"{name} must return a LossOut (foresee.objectives), not a {_kind(out)}")
    values: dict[str, Any] = {"total": out.total, **out.parts}
    for what, value in values.items():
        if not isinstance(value, Tensor) or value.shape != () or not value.isfinite():
            raise RequestError(f"{name}: {what} must be a tensor of one finite number, not {_describe(value)}")
    if not out.total.requires_grad:
        raise RequestError(f"{name}: total has no gradient; compute it without detach, item or no_grad")
    total, added = out.total.item(), sum(part.item() for part in out.parts.values())
    if abs(added - total) > CLOSE * (1 + abs(added)):
        raise RequestError(f"{name}: its parts add up to {added:.6g}, but total is {total:.6g}")
    _require_shape(f"{name}: per_token", out.per_token, batch.tokens.shape, out.per_token.dtype)
    if out.per_token.requires_grad:
        raise RequestError(f"{name}: per_token still has a gradient; detach it")
    leaves, named = _trained_by(out.total), dict(objective.named_parameters())
    held = {id(value) for value in named.values()}
    if strange := [str(list(leaf.shape)) for leaf in leaves if id(leaf) not in held]:
        raise RequestError(
            f"{name} uses weights of shapes {', '.join(strange)} that are none of its parameters, so nothing "
            "trains them; make modules in __init__, and several of them as an nn.ModuleList"
        )
    if abs((second := compute().total.item()) - total) > 1e-6 * (1 + abs(total)):
        raise RequestError(
            f"{name} gives {total:.6g} and then {second:.6g} for the same batch and stream; draw from "
            "`rng` and nothing else (no dropout), and keep nothing from call to call"
        )
    reached = {id(leaf) for leaf in leaves}
    if idle := [each for each, value in named.items() if value.requires_grad and id(value) not in reached]:
        _warn(f"{name} leaves parameters out: {', '.join(idle[:4])}{', ...' if len(idle) > 4 else ''}")


def _warn_of_peeking(objective: Objective, batch: Batch) -> None:
    """Shows the network another token than the one that a loss asks for, which must not change that loss."""
    row = batch.tokens[:1]
    used = {*row.flatten().tolist(), *map(objective.vocab.token, objective.symbols)}
    unused = sorted(set(range(len(objective.vocab))) - used)
    for column in {batch.layout.first, batch.layout.last - 1} if unused else ():
        moved = []
        for token in unused[:2]:  # a loss that draws tokens may draw one of them
            tokens = row.clone()
            tokens[0, column] = token  # nowhere else in the row, so it can be told from all others
            asked = Batch.of(tokens, batch.layout.first, batch.layout.width)
            losses = (_loss_shown(objective, asked, token, instead, column) for instead in (token, int(row[0, column])))
            moved.append(abs(next(losses) - next(losses)) > 1e-5)
        if all(moved):
            _warn(
                f"{_kind(objective)}.loss: the loss of answer token {column - batch.layout.first} changes where the "
                "network is shown another in its place; does it read what it predicts (shift it by one), or is what "
                "per_token says there another token's?"
            )
            return


@torch.no_grad()
def _loss_shown(objective: Objective, batch: Batch, token: int, instead: int, column: int) -> float:
    """The loss of a token of a batch of one row where the network is shown another token in place of one."""
    embed, backbone = objective.backbone.embed, vars(objective.backbone)
    backbone["embed"] = lambda tokens: embed(tokens.masked_fill(tokens == token, instead))
    try:
        return float(objective.loss(batch, torch_stream("check", "peeking")).per_token[0, column])
    finally:
        del backbone["embed"]


def _check_decoding(objective: Objective, batch: Batch) -> None:
    name, places, prompts = _kind(objective), batch.layout.width, batch.prompts.clone()
    answers = objective.generate(prompts, places)
    _require_shape(f"{name}.generate", answers, (len(batch), places), torch.int64)
    if not torch.equal(prompts, batch.prompts):
        raise RequestError(f"{name}.generate changes the prompts that it is given; change a copy")
    forced = objective.forced(batch)
    if forced is None:
        return
    _require_shape(f"{name}.forced", forced, (len(batch), places, len(objective.vocab)))
    if not torch.allclose(forced.logsumexp(-1), torch.zeros(()), atol=CLOSE):
        raise RequestError(f"{name}.forced must give log-probabilities (log_softmax), which add up to 1")
    for place in sorted({0, places // 2, places - 1}):
        tokens = batch.tokens.clone()
        tokens[:, batch.layout.first + place] = (tokens[:, batch.layout.first + place] + 1) % len(objective.vocab)
        changed = objective.forced(replace(batch, tokens=tokens))
        assert changed is not None
        same = {"forward": slice(place + 1), "backward": slice(place, None), "parallel": slice(None)}[objective.order]
        if not torch.allclose(forced[:, same], changed[:, same], atol=1e-5):
            raise RequestError(
                f"{name}.forced reads token {place} of the answer before its turn: it changes scores of that token or "
                f"of one that is decided earlier (order {objective.order!r})"
            )


def _trained_by(total: Tensor) -> list[Tensor]:
    """The leaves that a backward pass would give a gradient to."""
    seen, left, found = set[Any](), [total.grad_fn], list[Tensor]()
    while left:
        node: Any = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [each for each, _ in node.next_functions]
            if type(node).__name__ == "AccumulateGrad":
                found.append(node.variable)
    return found


class _Hidden(dict[str, Tensor]):
    """Facts that a loss may not read."""

    def __missing__(self, key: str) -> NoReturn:
        raise RequestError(f"a loss reads batch.facts[{key!r}]; facts tell the solution and are for metrics alone")


def _require_shape(what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    if not isinstance(value, Tensor) or value.shape != torch.Size(shape) or value.dtype != dtype:
        raise RequestError(f"{what} must be a tensor {dtype} {list(shape)}, not {_describe(value)}")


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}" if value.shape else str(value.item())
    return f"a {_kind(value)}"


def _kind(value: object) -> str:
    return type(value).__name__


def _warn(sentence: str) -> None:
    warnings.warn(sentence, ForeseeWarning, stacklevel=2)
