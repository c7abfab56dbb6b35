"""A diagnosis as a whole: its JSON, held-out examples token by token, and what a terminal shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.spec import brief
from foresee.datasets.inspection import DataSummary
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.diagnose.decisions import Flags, TokenLosses
from foresee.experiments.diagnose.evidence import Course, SeedEvidence
from foresee.experiments.diagnose.measure import Estimate, Family, Kind, ratio, share
from foresee.experiments.diagnose.plan import DiagnosisPlan, DiagnosisSettings
from foresee.experiments.diagnose.verdict import DiagnosisVerdict
from foresee.metrics.intervals import share as one_share
from foresee.objectives.base import objectives
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training.summary import table_of

EXAMPLES = 8
LONGEST_PROMPT = 2000
"""Characters of a prompt that are shown."""
BETWEEN = ", \t\r\n"
"""What may stand between the tokens of a text without being one."""


@dataclass(frozen=True)
class Learned:
    """What one objective came to, over held-out examples and seeds: whole responses right, nats a whole response, and
    accuracy, written freely, on next-token's decision tokens (None where there is no such number). ``seconds`` of
    training and ``curves``, ``exact`` on the watched examples by step, are one a seed."""

    objective: str
    kind: Kind
    exact: Estimate
    exact_by_seed: list[float]
    nll: Estimate | None
    decisions: Estimate | None
    steps_to_solve: list[int | None]
    seconds: list[float]
    curves: list[Course]
    runs: list[str]


@dataclass(frozen=True)
class Token:
    """A token of a response, and what the response's text has between the last one and it: white space, or commas.
    Losses are means over seeds, in nats; ``decision`` and ``hard`` hold for most seeds."""

    before: str
    text: str
    shown: float
    hidden: float
    hard: bool
    decision: bool


@dataclass(frozen=True)
class ShownExample:
    """A held-out example."""

    prompt: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Everything that the page shows. ``accuracy`` has ``forced`` and ``free`` of next-token by position."""

    folder: Path
    question: DiagnosisSettings
    plan: DiagnosisPlan
    verdict: DiagnosisVerdict
    evidence: list[SeedEvidence]
    learned: list[Learned]
    absorbed: Estimate | None
    loss_shown: Estimate | None
    loss_hidden: Estimate | None
    positions: list[Estimate]
    from_end: list[Estimate]
    by_origin: list[Estimate]
    by_shape: list[Estimate]
    decision_positions: list[Estimate]
    accuracy: list[Estimate]
    examples: list[ShownExample]
    data: DataSummary | None
    held_out: int
    problems: int
    seconds: float

    @property
    def page(self) -> Path:
        """Where its page is."""
        return self.folder / "diagnosis.html"

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints and ``diagnosis.json`` holds."""
        return {
            "dir": str(self.folder), "question": self.question.json(), "plan": asdict(self.plan),
            "verdict": asdict(self.verdict), "evidence": [each.json() for each in self.evidence],
            "objectives": [asdict(each) for each in self.learned], "absorbed": self.absorbed,
            "loss_shown": self.loss_shown, "loss_hidden": self.loss_hidden, "positions": self.positions,
            "from_end": self.from_end, "by_origin": self.by_origin, "by_shape": self.by_shape,
            "decision_positions": self.decision_positions, "accuracy": self.accuracy,
            "examples": [asdict(each) for each in self.examples],
            "data": None if self.data is None else self.data.json(),
            "held_out": self.held_out, "problems": self.problems, "seconds": round(self.seconds, 1),
        }  # fmt: skip


def summarise(families: Mapping[str, Family], decisions: Tensor, problems: Tensor) -> list[Learned]:
    """A row for each objective; ``decisions`` [E, A] bool are the decision tokens of most next-token seeds, and
    ``problems`` [E] says which examples belong together."""
    rows = []
    for name, family in families.items():
        exact = family.stack("exact")
        ones = torch.ones(exact.shape[1])
        overall = share(exact, ones, problems)
        assert overall is not None
        # Wilson's interval has width at 0 and 1 too; the widest of the seeds', since they share their problems.
        alone = [one_share(each, problems) for each in exact]
        below = max(row["value"] - row["low"] for row in alone)
        above = max(row["high"] - row["value"] for row in alone)
        overall |= {"low": max(0.0, min(overall.get("low", 0.0), overall["value"] - below)),
                    "high": min(1.0, max(overall.get("high", 1.0), overall["value"] + above))}  # fmt: skip
        rows.append(
            Learned(
                objective=name, kind=family.kind, exact=overall, exact_by_seed=exact.double().mean(1).tolist(),
                nll=None if family.kind == "none" else ratio(family.stack("nll"), ones, problems),
                decisions=share((family.stack("free") & decisions).sum(2), decisions.sum(1), problems),
                steps_to_solve=[steps_to_solve(run) for run in family.runs],
                seconds=[run.seconds for run in family.runs],
                curves=[[(line["step"], line["eval"]["exact"]) for line in run.metrics] for run in family.runs],
                runs=[run.spec.digest for run in family.runs],
            )
        )  # fmt: skip
    return rows


def choose_examples(task: Task, batch: Batch, losses: TokenLosses, flags: Flags) -> list[ShownExample]:
    """Examples with the most loss on decision tokens, at the most half of ``EXAMPLES``, then the first of the
    others."""
    decision, hard = flags.decision.float().mean(0), flags.hard.float().mean(0)
    shown, hidden = losses.shown.mean(0), losses.hidden.mean(0)
    weight = (decision * shown).sum(1)
    ranked = torch.argsort(weight, descending=True, stable=True).tolist()
    telling = [row for row in ranked if float(weight[row]) > 0][: EXAMPLES // 2]
    chosen = telling + [row for row in range(len(batch)) if row not in telling][: EXAMPLES - len(telling)]
    pairs = list(batch.rows(torch.tensor(chosen, device=batch.tokens.device)).pairs())
    found = []
    for row, (prompt, answer) in zip(chosen, pairs, strict=True):
        symbols = write_tokens(task, answer)
        pair = zip(shown[row].tolist(), hidden[row].tolist(), strict=True)
        rounded = [(round(each, 4), round(other, 4)) for each, other in pair]
        tokens = tuple(
            Token(gap, symbol, *rounded[at], hard=bool(hard[row, at] > 0.5), decision=bool(decision[row, at] > 0.5))
            for at, (gap, symbol) in enumerate(zip(find_gaps(task.write_answer(answer), symbols), symbols, strict=True))
        )
        found.append(ShownExample(task.write_prompt(prompt)[:LONGEST_PROMPT], tokens))
    return found


def write_tokens(task: Task, answer: Sequence[int]) -> list[str]:
    """What each token of an answer is to people: its symbol, or of a user's own rows the text that it stands for, which
    a checkpoint's tokenizer writes otherwise."""
    symbols = task.vocab.decode(answer)
    if not isinstance(task, Data):
        return symbols
    texts = [task.write_answer([token]) for token in answer]
    return [text.strip() or text or symbol for text, symbol in zip(texts, symbols, strict=True)]


def find_gaps(text: str, symbols: list[str]) -> list[str]:
    """What stands before each symbol in a text that is made of them; nothing before those that it does not show, as
    ends of responses and the bytes of a longer character."""
    found, reached = [], 0
    for symbol in symbols:
        at = text.find(symbol, reached)
        known = at >= 0 and not text[reached:at].strip(BETWEEN)
        found.append(text[reached:at] if known else "")
        reached = at + len(symbol) if known else reached
    return found


def show_diagnosis(found: Diagnosis, console: Console) -> None:
    """Prints what each objective came to, the verdict, and where the page is."""
    rows = [
        (
            brief(objectives, each.objective), f"{each.exact['value']:.3f}",
            " ".join(f"{value:.3f}" for value in each.exact_by_seed),
            "-" if each.nll is None else f"{each.nll['value']:.2f} ({each.nll['low']:.2f} to {each.nll['high']:.2f})",
            "-" if each.decisions is None else f"{each.decisions['value']:.3f}",
            " ".join("-" if step is None else str(step) for step in each.steps_to_solve),
        )
        for each in found.learned
    ]  # fmt: skip
    console.print(f"{found.plan.steps:,} steps each, {found.held_out:,} held-out rows", markup=False, highlight=False)
    headings = ("objective", "right", "by seed", "nats a response", "decisions", "0.95 by step")
    console.print(table_of(headings, rows, console.width))
    lines = []
    if found.absorbed is not None:
        row = found.absorbed
        lines.append(f"share of supervision absorbed: {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})")
    places = ", ".join(str(each["position"] + 1) for each in found.decision_positions)
    lines += [f"decision positions: {places or 'none'}", f"verdict: {found.verdict.name}"]
    lines += [f"because: {found.verdict.because}", *found.verdict.remarks]
    for line in (*lines, *(f"next: {each}" for each in found.verdict.advice), f"page: {found.page}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
