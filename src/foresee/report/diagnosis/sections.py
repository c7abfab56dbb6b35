"""The parts of the page. Each function gives ready-made HTML."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from foresee.datasets.inspection import DataSummary, Finding
from foresee.experiments.diagnose.decisions import EASY, GIVEN, HARD
from foresee.experiments.diagnose.question import FORWARD
from foresee.experiments.diagnose.result import Diagnosis
from foresee.experiments.diagnose.tables import Row
from foresee.experiments.diagnose.verdict import COMPOUNDING, COSTLY, NONE_NEEDED, OPEN, TOO_SMALL
from foresee.metrics.verdict import SOLVED
from foresee.report.diagnosis import charts, tables
from foresee.report.diagnosis.examples import example
from foresee.report.markup import details, figure, items, spec, text
from foresee.report.style import Mark
from foresee.training.settings import CONTROL

PLAIN = {
    OPEN: "Next-token training would cheat on this data: it learns to read each token off those shown before it, and "
    "leaves a decision that can be learned unlearned.",
    COMPOUNDING: "Next-token training learns every step, but each is a little unsure, and written freely the "
    "errors add up.",
    TOO_SMALL: "This budget is too small to tell: what is left to learn has not been learned by anything yet, or is "
    "being learned still.",
    COSTLY: "Next-token training learns this data, but needs more samples than an order that works things out first.",
    NONE_NEEDED: "Next-token training is not cheating on this data: what can be learned here, it learns.",
}
TONE = {OPEN: "bad", COMPOUNDING: "open", TOO_SMALL: "open", COSTLY: "good", NONE_NEEDED: "good"}


def verdict(found: Diagnosis) -> str:
    """The name, what it means, the rule with its numbers, and what to try."""
    judged = found.verdict
    remarks = "".join(f"<p>{text(each)}</p>" for each in judged.remarks)
    return (
        f'<p class="verdict"><span class="badge {TONE[judged.name]}">{text(judged.name)}</span></p>'
        f'<p class="lead">{text(PLAIN[judged.name])}</p><p><b>Because</b> {text(judged.because)}.</p>{remarks}'
        f"<h3>What to try next</h3>{items(text(each) for each in judged.advice)}"
    )


def objectives(found: Diagnosis, labels: Mapping[str, str], marks: Mapping[str, Mark]) -> str:
    """Every objective on the same budget, and whether the control shows that it was enough."""
    control = next(each for each in found.learned if each.objective == CONTROL)
    forward = next(each for each in found.learned if each.objective == FORWARD)
    best = max(control.exact_by_seed)
    if best >= SOLVED:
        enough = (
            f"The control, reversed, reaches {best:.3f}: the network and the budget are enough for these responses."
        )
    elif control.nll is not None and forward.nll is not None and control.nll["value"] < forward.nll["low"]:
        enough = "The control, reversed, pays less than next-token for whole responses: what it saves can be learned."
    else:
        enough = (
            f"The control, reversed, reaches {best:.3f} and pays no less than next-token: it does not show that the "
            "budget was enough."
        )
    return (
        f"<p>All were trained for {found.plan.steps:,} steps of {found.question.batch} rows, from the same initial "
        f"network, on the same rows in the same order, {_count(found.question.seeds, 'seed')} each. {text(enough)}</p>"
        + tables.learned(found.learned, labels, marks, found.plan.steps)
        + '<p class="note">Nats a response: minus the log-probability of the whole true response, which is comparable '
        "between all of them whatever order they write in (a dash: not defined). Decisions right: accuracy, written "
        "freely, at the tokens that are decisions for next-token. All on "
        f"{found.held_out:,} held-out rows, with 95 % intervals over rows and seeds.</p>"
        + figure(
            charts.curves(found.learned, marks), "Whole responses right on watched rows during training, a line a seed."
        )
    )


def losses(found: Diagnosis) -> str:
    """By position and by token class, with the truth shown and hidden."""
    decisions = [each["position"] for each in found.decision_positions]
    parts = [
        (
            f"<p>With the truth <b>shown</b>, next-token pays {_nats(found.loss_shown)} a response. With it "
            f"<b>hidden</b>, "
            f"teacherless pays {_nats(found.loss_hidden)}, each token from the prompt alone. The share of "
            f"supervision that the "
            f"shown tokens absorb is <b>{_share(found.absorbed)}</b>.</p>"
        ),
        (
            '<ul class="key"><li class="h0"><svg class="sample" viewBox="0 0 34 10"><path d="M0 5H34"/></svg>shown</li>'
            '<li class="h2"><svg class="sample" viewBox="0 0 34 10"><path stroke-dasharray="8 3" d="M0 '
            '5H34"/></svg>hidden</li>'
            '<li><mark class="decides">yellow</mark> decision position</li></ul>'
        ),
    ]
    drawn = [charts.losses(found.positions, "position", decisions, False)]
    if found.from_end:
        drawn.append(charts.losses(found.from_end, "from_end", [], True))
    parts.append('<div class="wide">' + "".join(figure(each) for each in drawn) + "</div>")
    parts.append(details("the numbers by position", tables.losses(found.positions, "position", "position")))
    if found.from_end:
        counted = tables.losses(found.from_end, "from the end", "from_end")
        parts.append(details("the numbers by position from the end", counted))
    parts.append("<h3>By where a token could be copied from</h3>")
    parts.append(tables.losses(found.by_origin, "token", "class"))
    parts.append("<h3>By what a token looks like</h3>")
    parts.append(tables.losses(found.by_shape, "token", "class"))
    if found.absorbed is not None and found.absorbed["value"] < 0:
        parts.append(
            '<p class="note">A share below 0: on this budget the model that is shown no earlier token has learned '
            "more than the one that is.</p>"
        )
    return "".join(parts)


def decisions(found: Diagnosis) -> str:
    """Decision positions, and examples in the text."""
    rule = (
        f"<p>A token is hard where next-token pays at least {HARD} nats though the true tokens before it "
        f"are shown. It is a "
        f"decision where what follows, up to the next hard token, is easy (at most {EASY} nats a token) "
        f"and only because "
        f"it is shown (at least {GIVEN} nats more with it hidden), or where the model that is shown "
        f"nothing knows this very "
        f"token better by {GIVEN} nats.</p>"
    )
    if found.decision_positions:
        lines = (
            (
                str(each["position"] + 1), tables.number(each["shown"]), tables.number(each["follows"]),
                tables.number(each["given"]),
            )
            for each in found.decision_positions
        )  # fmt: skip
        said = tables.table(("position", "its loss, shown", "loss of what follows, shown", "given away there"), lines)
    else:
        said = "<p>No position is a decision by the means over rows.</p>"
    legend = (
        '<ul class="legend"><li><mark class="decides">decision</mark></li><li><span class="hard">hard, but no decision'
        '</span></li><li><span class="given">given away by what is shown</span></li></ul>'
    )
    return rule + said + "<h3>Held-out rows</h3>" + legend + "".join(map(example, found.examples))


def accuracy(found: Diagnosis) -> str:
    """Forced against free-running, and what the gap is."""
    first = found.evidence[0]
    if first.drop < 0.02:
        gap = (
            "Written freely, next-token is right about as often as with the truth shown: its errors, if any, stay "
            "where they are."
        )
    elif found.verdict.name == OPEN or first.least_forced < 0.8:
        gap = (
            f"Written freely, next-token loses {first.drop:.2f} of its accuracy. That is not small errors "
            f"that add up: at its "
            f"worst position it is right {first.least_forced:.2f} of the time even with the truth shown, "
            f"and what follows "
            "goes wrong with it."
        )
    else:
        gap = (
            f"Written freely, next-token loses {first.drop:.2f} of its accuracy, though every position is at least "
            f"{first.least_forced:.2f} right with the truth shown. If errors merely compound, the product of these "
            f"says that {first.compounded:.3f} of whole responses are right; {first.exact:.3f} are."
        )
    key = (
        '<ul class="key"><li class="h1"><svg class="sample" viewBox="0 0 34 10"><path d="M0 '
        '5H34"/></svg>the truth shown'
        '</li><li class="h3"><svg class="sample" viewBox="0 0 34 10"><path stroke-dasharray="4 3" d="M0 5H34"/></svg>'
        "written freely</li></ul>"
    )
    return f"<p>{text(gap)} (Seed 0.)</p>{key}{figure(charts.accuracies(found.accuracy))}"


def data(summary: DataSummary) -> str:
    """What is in the file that bears on the verdict."""
    bad = sum(summary.bad_rows.values())
    lines = [
        (
            f"{summary.rows:,} rows: {summary.train_rows:,} to train on, {summary.test_rows:,} held out; "
            f"{_count(bad, 'bad row')} left out."
        ),
        f"{_count(summary.duplicates.rows, 'row')} repeat an earlier one.",
        (
            f"{_count(summary.contradictions.prompts, 'prompt')} have several different responses, in "
            f"{_count(summary.contradictions.rows, 'row')}: what cannot be known from a prompt costs every "
            f"objective alike."
        ),
        f"{_count(summary.overlap.rows, 'row')} have a prompt of the test file and are not trained on.",
        f"The most frequent response is that of {summary.majority:.1%} of the rows.",
    ]
    found = (
        ("duplicates", summary.duplicates),
        ("contradictions", summary.contradictions),
        ("overlap", summary.overlap),
    )
    shown = "".join(_finding(name, finding) for name, finding in found if finding.examples)
    return items(text(line) for line in lines) + shown


def _finding(name: str, finding: Finding) -> str:
    lines = (
        f"{text('; '.join(each.places))}: <code>{text(each.prompt[:200])}</code> &rarr; "
        + " / ".join(f"<code>{text(response[:200])}</code>" for response in each.responses)
        for each in finding.examples
    )
    return details(f"the first {name}", items(lines))


def reproduce(found: Diagnosis, command: str) -> str:
    """The command, the settings, and where everything lies."""
    question = found.question
    rows = (
        ("task", spec(question.task)), ("backbone", spec(question.backbone)),
        ("steps, rows a step, learning rate", text(f"{found.plan.steps:,}, {question.batch}, {question.lr:g}")),
        ("runs", text(", ".join(run for each in found.learned for run in each.runs))),
    )  # fmt: skip
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return (
        f'<pre><code>{text(command)}</code></pre><dl class="facts">{listed}</dl>'
        "<p>Beside this page: <code>diagnosis.json</code>, every number on it; <code>runs</code>, a "
        "folder a run with the "
        "trained model; <code>measured</code>, losses of every held-out token.</p>"
    )


def command_of(found: Diagnosis) -> str:
    """A command line that asks the same question of the same task spec."""
    question = found.question
    words = ["foresee", "diagnose", question.task, "--backbone", question.backbone]
    if len(question.objectives) > 3:
        words += ["--objectives", ",".join(question.objectives[3:])]
    words += ["--seeds", str(question.seeds), "--batch", str(question.batch), "--lr", f"{question.lr:g}"]
    return shlex.join([*words, "--steps", str(found.plan.steps)])


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _nats(row: Row | None) -> str:
    return "nothing" if row is None else f"{row['value']:.2f} nats ({row['low']:.2f} to {row['high']:.2f})"


def _share(row: Row | None) -> str:
    return "not defined" if row is None else f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
