"""What parts of one's own must keep, tried on a few examples before anything is trained with them.

Whatever is broken is refused in one sentence, and a warning where it may be meant. Parts of this package are not tried:
the tests ask the same of them, and more.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy
import torch
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.backbones.capabilities import LENGTH
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.plugins import attempt, explained, is_own
from foresee.core.seeds import stream, torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.metrics.base import Subject, metrics
from foresee.metrics.measure import evaluation_mode, measure_one
from foresee.objectives.base import Objective
from foresee.tasks.base import Lure, Task, WrongTurn
from foresee.tasks.text import TextForm
from foresee.training.loss_checks import CLOSE, check_loss, require_shape, warn_of_peeking

ROWS = 8
ORDERS = ("forward", "backward", "parallel")


def check_task(task: Task) -> None:
    """Raises ``RequestError`` where a task of one's own contradicts itself."""
    name = type(task).__name__
    if not is_own(type(task)):
        return
    with explained(type(task), f"{name}: one of its sizes"):
        _check_sizes(name, task)
    rows = task.group * max(1, ROWS // task.group)
    drawn: list[Any] = [attempt(task, "sample", rows, stream("check", *key)) for key in ((), (), ("other",))]
    batch, again, other = drawn
    if not isinstance(batch, Batch):
        raise RequestError(
            f"{name}.sample must return a Batch (foresee.core.batch: Batch.of), not a {type(batch).__name__}"
        )
    if len(batch) != rows:
        raise RequestError(f"{name}.sample gives {len(batch)} rows where {rows} are asked for")
    pairs = list(batch.pairs())
    for prompt, answer in pairs:
        for what, tokens, most in (("prompt", prompt, task.prompt_length), ("answer", answer, task.answer_length)):
            if not 0 < len(tokens) <= most:
                raise RequestError(f"{name} declares {what}s of 1 to {most} tokens, but samples one of {len(tokens)}")
            if not 0 <= min(tokens) <= max(tokens) < len(task.vocab):
                raise RequestError(f"{name} samples {what} {tokens}, but its tokens are 0 to {len(task.vocab) - 1}")
        if task.end is not None and (task.end not in answer or answer.index(task.end) != len(answer) - 1):
            raise RequestError(
                f"{name}: its end is token {task.end}, but it samples answer {answer}; that token must close every "
                "answer and stand nowhere else in one"
            )
    if not torch.equal(batch.tokens, again.tokens):
        raise RequestError(f"{name}.sample draws other examples from the same stream; draw from `rng` and nothing else")
    if torch.equal(batch.tokens, other.tokens):
        raise RequestError(f"{name}.sample draws the same examples from any stream; draw from `rng`")
    shared = batch.tokens[:, : task.shared_prefix].reshape(rows // task.group, task.group, task.shared_prefix)
    if (shared != shared[:, :1]).any():
        raise RequestError(
            f"{name}: its first {task.shared_prefix} columns (shared_prefix) differ within {task.group} consecutive "
            "rows (group)"
        )
    with explained(type(task), f"{name}.identity"):
        _check_identity(name, task, batch, again)
    _check_decisions(name, task, batch)
    for prompt, answer in pairs[:: task.group]:
        _check_pair(name, task, prompt, answer)


def _check_sizes(name: str, task: Task) -> None:
    for what, kind in (("vocab", Vocabulary), ("text", TextForm)):
        if not isinstance(getattr(task, what), kind):
            raise RequestError(f"{name}: {what} must be a {kind.__name__}, not a {type(getattr(task, what)).__name__}")
    for what, least in {
        "prompt_length": 1,
        "answer_length": 1,
        "group": 1,
        "shared_prefix": 0,
        "end": 0,
        "hops": 0,
    }.items():
        value = getattr(task, what)
        if what in ("end", "hops") and value is None:
            continue
        if not isinstance(value, Integral) or int(value) < least:
            raise RequestError(f"{name}: {what} must be a whole number from {least} up, not {value!r}")


def _check_identity(name: str, task: Task, batch: Batch, again: Batch) -> None:
    found: Any = task.identity(batch)
    if not isinstance(found, numpy.ndarray) or found.dtype != numpy.uint64 or found.shape != (len(batch),):
        raise RequestError(f"{name}.identity must give {len(batch)} numpy.uint64, as foresee.core.fingerprints does")
    alone = [task.identity(batch.rows(slice(row, row + 1))) for row in range(len(batch))]
    if (task.identity(again) != found).any() or (numpy.concatenate(alone) != found).any():
        raise RequestError(
            f"{name}.identity gives a row another number when it is asked again, or alone; it must follow from the "
            "row's problem and nothing else"
        )
    if (found.reshape(-1, task.group) != found[:: task.group, None]).any():
        raise RequestError(f"{name}.identity differs within {task.group} consecutive rows (group), which share one")


def _check_decisions(name: str, task: Task, batch: Batch) -> None:
    """Tries what a task says of decisions."""
    branch, width = batch.facts.get("branch"), batch.longest_answer
    turn: Any = attempt(task, "wrong_turn", batch, torch_stream("check"))
    if turn is not None:
        rows = getattr(turn, "rows", None)
        count = len(rows) if isinstance(rows, Tensor) else 0
        given = [getattr(turn, what, None) for what in ("rows", "place", "answers")]
        if not all(map(_are_tokens, given, ([count], [count], [count, width]))) or not isinstance(turn, WrongTurn):
            raise RequestError(
                f"{name}.wrong_turn must give None or a WrongTurn of torch.int64 [K], [K] and [K, {width}]"
            )
    if branch is None:
        return
    if branch.dtype != torch.int64 or branch.shape != (len(batch),):
        raise RequestError(
            f"{name}: the fact 'branch' must be a tensor torch.int64 [{len(batch)}], not {branch.dtype} "
            f"{list(branch.shape)}"
        )
    if bool(((branch < -1) | (branch >= batch.answer_len)).any()):
        raise RequestError(f"{name}: the fact 'branch' is {branch.tolist()}; it counts answer tokens from 0 (-1: none)")
    decided = batch.rows((branch >= 0).nonzero().flatten())
    tokens = batch.padded_answers().gather(1, branch.clamp(min=0)[:, None])[:, 0]
    implied: Any = attempt(task, "implied", batch, tokens)
    lure: Any = attempt(task, "lure", decided, torch_stream("check")) if len(decided) else None
    if implied is not None and not _are_tokens(implied, (len(batch), width)):
        raise RequestError(f"{name}.implied must give None or a tensor torch.int64 [{len(batch)}, {width}]")
    edits: list[Any] = [lure.critical, lure.safe] if isinstance(lure, Lure) else []
    if lure is not None and [len(each) for each in edits if isinstance(each, Batch)] != [len(decided)] * 2:
        raise RequestError(f"{name}.lure must give None or a Lure of two batches of as many rows as it is given")


def _are_tokens(value: Any, shape: Sequence[int]) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.int64 and value.shape == torch.Size(shape)


def _check_pair(name: str, task: Task, prompt: list[int], answer: list[int]) -> None:
    shown = attempt(task, "write_line", prompt, answer)
    solved = attempt(task, "solve", prompt)
    try:
        solved = [operator.index(token) for token in solved]
    except TypeError:
        raise RequestError(f"{name}.solve must give a list of tokens, not {solved!r}") from None
    with explained(type(task), f"{name}.verify"):
        for giver, given in (("sample", answer), ("solve", solved)):
            if not task.verify(prompt, given):
                raise RequestError(
                    f"{name}: verify refuses what {giver} gives for {shown!r}, {task.write_answer(given)!r}; sample, "
                    "solve and verify must agree"
                )
        if task.verify(prompt, []) or task.verify(prompt, [*answer, answer[-1]]):
            raise RequestError(f"{name}.verify accepts a wrong answer to {shown!r}: an empty one, or a token too many")
    try:
        read: Any = attempt(task, "read_line", shown)
    except RequestError as error:
        read = error
    if read != (prompt, answer):
        said = f" ({read})" if isinstance(read, RequestError) else ""
        raise RequestError(f"{name}: the line {shown!r} is not read back as it was{said}; see its TextForm")


def check_model(
    task: Task, objective: Objective, examples: Batch, steps: int, again: Callable[[], Objective] | None = None
) -> None:
    """Raises ``RequestError`` where an objective, backbone or metric of one's own breaks what the others rely on; warns
    where a loss reads what it predicts or leaves parameters out. ``examples`` are the run's test examples; ``again``
    builds the fresh objective once more."""
    name, own_objective = type(objective).__name__, is_own(type(objective))
    if not (hasattr(objective, "backbone") and hasattr(objective, "vocab")):
        raise RequestError(f"{name}.__init__ must call super().__init__(backbone, vocab, generator)")
    if objective.order not in ORDERS:
        raise RequestError(f"{name}: order={objective.order!r} must be one of {', '.join(ORDERS)}")
    batch = examples.uniform_parts()[0][1].rows(slice(task.group * max(1, ROWS // task.group)))
    own_backbone = is_own(type(objective.backbone))
    if (own_backbone or own_objective) and again is not None:
        _check_weights(objective, again())
    if own_backbone:
        with evaluation_mode(objective):
            _check_backbone(objective.backbone)
    if own_backbone or own_objective:
        attempt(objective, "begin_step", 0, steps)
        check_loss(objective, batch)
    if own_objective:
        warn_of_peeking(objective, batch)
        with evaluation_mode(objective):
            _check_decoding(objective, batch)
    if own := [each for each in metrics.names() if is_own(metrics.get(each))]:
        subject = Subject(task, objective, batch, None, partial(torch_stream, "check"))
        with evaluation_mode(objective):
            for metric in own:
                with explained(metrics.get(metric), f"metric {metric!r}"):
                    first, second = measure_one(metric, subject), measure_one(metric, subject)
                if first != second:
                    raise RequestError(
                        f"metric {metric!r} gives other rows when it measures again; draw from subject.stream and "
                        "nothing else"
                    )


def _check_weights(objective: Objective, again: Objective) -> None:
    others = again.state_dict()
    for name, value in objective.state_dict().items():
        if name not in others or not torch.equal(value, others[name]):
            part = objective.backbone if name.startswith("backbone.") else objective
            raise RequestError(
                f"{type(part).__name__}.__init__ gives {name.removeprefix('backbone.')} other values when it is built "
                "again from the same seed; draw weights from the generator that it is given"
            )


def _check_backbone(backbone: Backbone) -> None:
    if not isinstance(getattr(backbone, "vocab_size", None), int):
        raise RequestError(f"{type(backbone).__name__}.__init__ must set vocab_size, the size of its vocabulary")
    name, shape = type(backbone).__name__, (ROWS, min(LENGTH, backbone.longest or LENGTH))
    call: Any = partial(attempt, backbone)
    tokens = torch.randint(backbone.vocab_size, shape, generator=torch_stream("check"))
    x = call("embed", tokens)
    require_shape(f"{name}.embed", x, (*tokens.shape, backbone.width))
    whole = call("forward", x)
    require_shape(f"{name}.forward", whole, x.shape)
    require_shape(f"{name}.logits", call("logits", whole), (*tokens.shape, backbone.vocab_size))
    kept = call("forward", x, keep=slice(1, 3))
    require_shape(f"{name}.forward with keep=slice(1, 3)", kept, whole[:, 1:3].shape)
    state, memory = _two(f"{name}.start", call("start", x[:, :-2]))
    require_shape(f"{name}.start", state, whole[:, 0].shape)
    pairs = {
        "forward with keep": (kept, whole[:, 1:3], "those columns without"),
        "start": (state, whole[:, -3], "forward"),
    }
    for column in (-2, -1):
        state, memory = _two(f"{name}.step", call("step", x[:, column], memory))
        require_shape(f"{name}.step", state, whole[:, 0].shape)
        pairs[f"step {3 + column} after start"] = state, whole[:, column], "forward"
    for what, (found, expected, where) in pairs.items():
        if not torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE):
            off = float((found - expected).abs().max())
            raise RequestError(f"{name}: {what} gives other states than {where}, by up to {off:.2g}")


def _check_decoding(objective: Objective, batch: Batch) -> None:
    name, places, prompts = type(objective).__name__, batch.layout.width, batch.prompts.clone()
    answers = attempt(objective, "generate", prompts, places)
    require_shape(f"{name}.generate", answers, (len(batch), places), torch.int64)
    if not 0 <= int(answers.min()) <= int(answers.max()) < len(objective.vocab):
        raise RequestError(f"{name}.generate gives {answers[0].tolist()}; tokens are 0 to {len(objective.vocab) - 1}")
    if not torch.equal(prompts, batch.prompts):
        raise RequestError(f"{name}.generate changes the prompts that it is given; change a copy")
    if not torch.equal(attempt(objective, "generate", prompts, places), answers):
        raise RequestError(f"{name}.generate gives other answers when called again; it draws nothing and keeps nothing")
    forced = attempt(objective, "forced", batch)
    if forced is None:
        return
    require_shape(f"{name}.forced", forced, (len(batch), places, len(objective.vocab)))
    if not torch.allclose(forced.logsumexp(-1), torch.zeros(()), atol=CLOSE):
        raise RequestError(f"{name}.forced must give log-probabilities (log_softmax), which add up to 1")
    for place in sorted({0, places // 2, places - 1}):
        tokens = batch.tokens.clone()
        tokens[:, batch.layout.first + place] = (tokens[:, batch.layout.first + place] + 1) % len(objective.vocab)
        changed = attempt(objective, "forced", replace(batch, tokens=tokens))
        same = {"forward": slice(place + 1), "backward": slice(place, None), "parallel": slice(None)}[objective.order]
        if not torch.allclose(forced[:, same], changed[:, same], atol=1e-5):
            raise RequestError(
                f"{name}.forced reads token {place} of the answer before its turn: it changes scores of that token or "
                f"of one that is decided earlier (order {objective.order!r})"
            )


def _two(what: str, given: Any) -> tuple[Any, Any]:
    if not (isinstance(given, tuple) and len(given) == 2):
        raise RequestError(f"{what} must give two things, a state [B, D] and a memory, not a {type(given).__name__}")
    return given
