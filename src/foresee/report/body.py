"""The page's sections in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence

from foresee.report import costs, making
from foresee.report import sections as first
from foresee.report.book import Book, source
from foresee.report.charts import MEASURES, learning_curve, position_chart, supervision_chart
from foresee.report.controls import of_examples
from foresee.report.dissection import examples, left_out
from foresee.report.groups import Group, Setting
from foresee.report.markup import figure, grid, text
from foresee.report.pick import budget, pick
from foresee.report.star import read_star
from foresee.report.study_section import studies
from foresee.report.supervision import supervision_of
from foresee.report.svg import drawing
from foresee.report.words import Section, listed, seeds


def about(book: Book) -> str:
    """How much there is, in a line."""
    tasks, runs = {record.task for record in book.records}, len(book.records)
    objectives = {record.objective for record in book.records}
    unfinished = sum(not record.finished for record in book.records)
    parts = [
        f"{runs} run{'' if runs == 1 else 's'}",
        f"{len(objectives)} objective{'' if len(objectives) == 1 else 's'}",
    ]
    parts += [
        f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}",
        seeds(len({record.seed for record in book.records})),
    ]
    parts += [f"{len(book.studies)} {'study' if len(book.studies) == 1 else 'studies'}"] if book.studies else []
    parts += [f"{unfinished} unfinished"] if unfinished else []
    return " · ".join(parts)


def sections(book: Book, name: str, beside: Sequence[str]) -> tuple[Section, ...]:
    """Every section that has something to show. ``name`` is the page's file, ``beside`` the folders written with it."""
    found = [Section("happened", "", first.unreadable(book) + first.findings(book))]
    if book.studies:
        found.append(Section("studies", "Published beside measured", studies(book)))
    if book.records:
        found += [
            Section("table", "The runs", first.table(book)),
            Section("curves", "Learning curves", curves(book)),
            Section("survival", "Steps to solve", costs.survival(book)),
            Section("positions", "Accuracy by position", positions(book)),
        ]
        if any(record.position_losses for record in book.records):
            found.append(Section("supervision", "Where the supervision goes", supervision(book)))
        found += [
            Section("example", "The anatomy of an example", anatomy(book)),
            Section("costs", "Costs", costs.costs(book)),
        ]
    found.append(Section("meaning", "What it means, and how to read it", making.meaning(book)))
    own = making.pages_own(book, name, list(beside))
    found.append(Section("reproduce", "How to reproduce this", own + making.reproduction(book)))
    return tuple(found)


def key(book: Book, setting: Setting) -> str:
    """A legend in HTML, so that it can wrap: a drawn line and its label for each objective."""
    lines = []
    for name, label in {group.name: group.label for group in setting.groups}.items():
        mark = book.marks[name]
        dashes = f' stroke-dasharray="{mark.dashes}"' if mark.dashes else ""
        sample = drawing(34, 10, f'<path class="h{mark.hue}" d="M1 5H33"{dashes}/>', f"line of {label}", "sample")
        lines.append(f'<li data-o="{book.places[name]}">{sample}{text(label)}</li>')
    return f'<ul class="key">{"".join(lines)}</ul>'


def curves(book: Book) -> str:
    """Three measures against steps, a setting after the other."""
    parts = [_CURVES]
    for setting in book.settings:
        measures = [each for each in MEASURES if _has(setting, each)]
        charts = [
            figure(learning_curve(setting, each, book.marks, book.places), text(MEASURES[each])) for each in measures
        ]
        parts.append(book.heading(setting) + key(book, setting) + grid(charts))
    return "".join(parts) + source(
        "Every point is an evaluation of <code>metrics.jsonl</code> in a run's folder, written by the command that "
        "trains the run: " + _commands(book, list(book.groups))
    )


def _has(setting: Setting, measure: str) -> bool:
    """Whether there is a curve to draw; a setting of which nothing is measured yet has those that there will be."""
    if measure == "branch" and setting.branch is None:
        return False
    found = [each for group in setting.groups for run in group.runs for each in run.record.evaluations]
    return not found or any(each.rate(measure) is not None for each in found)


def _commands(book: Book, groups: list[Group]) -> str:
    """Links to the commands of some groups, or to all of them where they are many."""
    if len(groups) > 12:
        return '<a class="again" href="#reproduce">all commands</a>.'
    links = (f'<a class="again" href="#{book.anchor(group)}">{text(group.label)}</a>' for group in groups)
    return ", ".join(links) + "."


def positions(book: Book) -> str:
    """A chart a group, the groups of a setting together."""
    parts = [_POSITIONS]
    for setting in book.settings:
        groups = [group for group in setting.groups if group.finished]
        charts = [
            f'<div data-o="{book.places[group.name]}">'
            + figure(position_chart(group, setting, book.marks[group.name]),
                     f"{text(group.label)} {book.again(group)}")
            + "</div>"
            for group in groups
        ]  # fmt: skip
        nothing = '<p class="quiet">No run is finished yet, so this is not measured.</p>'
        parts.append(book.heading(setting) + (grid(charts) if charts else nothing))
    return "".join(parts) + source(
        "Rows <code>forced</code> and <code>free</code> of <code>rows.jsonl</code> in each run's folder; "
        "<code>foresee evaluate RUN</code> measures them again."
    )


def supervision(book: Book) -> str:
    """A chart a group that says its loss by position."""
    parts = [_SUPERVISION]
    for setting in book.settings:
        charts, without = [], []
        for group in setting.groups:
            found = supervision_of(group)
            if found is None:
                without.append(group.label)
                continue
            branch = setting.branch if setting.branch is not None and setting.branch < len(found.shares[0]) else None
            said = ""
            if branch is not None:
                said = (
                    f"The branch takes {found.shares[0][branch]:.0%} of the loss at first and "
                    f"{found.shares[-1][branch]:.0%} at last. "
                )
            sums = f"Summed over the answer: {found.nats[0]:.3g} nats at first, {found.nats[-1]:.3g} at last"
            mean = f", the mean of {seeds(found.seeds)}." if found.seeds > 1 else "."
            drawn = supervision_chart(found, group.label, branch)
            chart = figure(drawn, f"{text(group.label)} {book.again(group)}", text(said + sums + mean))
            charts.append(f'<div data-o="{book.places[group.name]}">{chart}</div>')
        if charts:
            missing = f'<p class="quiet">Not recorded: {text(listed(without))}.</p>' if without else ""
            parts.append(book.heading(setting) + grid(charts) + missing)
    return "".join(parts) + source(
        "<code>position_loss</code> of each line of <code>metrics.jsonl</code> in a run's folder, written by its "
        "training command."
    )


def anatomy(book: Book) -> str:
    """The picked examples of every setting, with their controls."""
    most, parts, graphs = budget(book.settings), [], False
    for place, setting in enumerate(book.settings, start=1):
        shown = pick(setting, most)
        if not shown:
            continue
        graphs = graphs or any(read_star(each.prompt) is not None for each in shown)
        said = left_out(setting, shown)
        parts.append(
            f'{book.heading(setting)}<div class="anatomy-of">{of_examples(book, shown)}'
            f"{examples(setting, shown, f'star{place}', book.marks, book.places)}"
            + (f'<p class="quiet">{text(said)}</p>' if said else "")
            + "</div>"
        )
    if not parts:
        return "<p>No run has kept test examples yet.</p>"
    where = (
        "<code>anatomy.json</code> and <code>examples.jsonl</code> in each run's folder, written at the end of its "
        "training command; <code>foresee explore RUN</code> tries any other example: "
    )
    drawn = _GRAPH if graphs else ""
    return drawn + _ANATOMY + "".join(parts) + making.kept(book) + source(where + _commands(book, list(book.groups)))


_CURVES = """<p>Measured during training on test examples, one line a seed, a dot at its last evaluation. A branch that
stays on the dotted line is a guess, however well everything else is learned.</p>"""

_POSITIONS = """<p>After training. <em>Forced</em> (filled, solid): the true answer so far is revealed, as in training.
<em>Free-running</em> (open, dashed): the model goes on from what it wrote itself.</p>"""

_SUPERVISION = """<p>Which answer positions the training loss comes from. Early on every position is uncertain; what is
left at the end is what the model cannot predict. Where that is the branch alone, all the rest of the answer has stopped
teaching anything, and one token is left to learn the decision from.</p>"""

_GRAPH = """<p>The centre is on the left and every row is an arm. The yellow band is the right path and the ringed
node the goal. Arrows are what the model wrote: solid along an edge of the graph, dashed and bent where it jumped
between nodes that no edge joins. A tick or a cross marks how it ended.</p>"""

_ANATOMY = """<p>Below each graph, a column a symbol of the answer with the likeliest symbols and their probabilities;
the right one is bold, the branch is framed. The first example is chosen to be telling: on it as many models as possible
do what they mostly do (right where a run solved the task, wrong where it did not).</p>"""
