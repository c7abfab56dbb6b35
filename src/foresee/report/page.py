"""Run directories in, one self-contained page out.

The page holds no script and asks the network for nothing: its policy forbids both, so text that came from elsewhere has
no way to do anything even if it escaped its escaping. It has no date either: the same runs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foresee import files
from foresee.errors import RequestError
from foresee.report import sections
from foresee.report.choose import Shown, choose
from foresee.report.curves import (
    MEASURES,
    curve_figure,
    legend_handles,
    position_figure,
    position_handles,
    sample_figure,
)
from foresee.report.drawing import is_wide, star_figure
from foresee.report.groups import Setting, arrange, marks_of
from foresee.report.load import RunRecord, read_run
from foresee.report.markup import figure, grid, items, said, text, written
from foresee.report.style import Mark, drawing, inline_svg, render, write_figure
from foresee.report.stylesheet import STYLESHEET
from foresee.report.words import task_title

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TITLE = "Does it look ahead?"


def read_records(run_dirs: Sequence[Path]) -> tuple[RunRecord, ...]:
    """Reads each directory once, in the order given. Raises ``RequestError`` where there is none or one is damaged."""
    if not run_dirs:
        raise RequestError("a report needs at least one run directory, such as runs/0123456789abcdef")
    return tuple(read_run(path) for path in dict.fromkeys(Path(path).resolve() for path in run_dirs))


def write_report(
    run_dirs: Sequence[Path], out: Path, *, title: str | None = None, notes: Mapping[str, str] | None = None
) -> Path:
    """Writes the page ``out`` and, in ``<stem>_figures`` beside it, every figure as SVG and PDF; returns ``out``.

    ``notes`` maps names of run directories to a remark shown wherever the run is (for example, "from committed rows").
    Unfinished runs are shown as far as they are. Raises ``RequestError`` on a missing or damaged run directory and
    ``ForeseeError`` where a file cannot be written.
    """
    out = Path(out)
    records = read_records(run_dirs)
    settings = arrange(records, notes or {})
    page = _Page(settings, marks_of(settings), out.parent / f"{out.stem}_figures")
    with drawing():
        files.write_text(out, page.html(records, title or TITLE))
    return out


class _Page:
    """Draws each figure twice: inline, narrow enough for a phone, and as files for papers and slides."""

    def __init__(self, settings: tuple[Setting, ...], colours: dict[str, Mark], folder: Path) -> None:
        self.settings = settings
        self.marks = colours
        self.folder = folder
        self.drawn = 0

    def html(self, records: tuple[RunRecord, ...], title: str) -> str:
        groups = tuple(group for setting in self.settings for group in setting.groups)
        body = (
            ("happened", "", sections.findings(self.settings, self.marks)),
            ("table", "The runs", sections.table(self.settings, self.marks)),
            ("curves", "Learning curves", _CURVES + sections.panels(self.settings, self.curves)),
            ("positions", "Accuracy by position", _POSITIONS + sections.panels(self.settings, self.positions)),
            ("example", "One test example", self.examples() + sections.examples(groups)),
            ("meaning", "What it means, and how to read it", sections.meaning(self.settings)),
            ("reproduce", "How to reproduce this", sections.reproduction(self.settings, records) + self.where()),
        )
        parts = ""
        for name, heading, content in body:
            above = f"<h2>{heading}</h2>" if heading else ""
            parts += f'<section id="{name}">{above}{content}</section>'
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(title)}</title>'
            f"<style>{STYLESHEET}</style></head>\n<body><main><h1>{text(title)}</h1>{parts}</main></body></html>\n"
        )

    def _name(self, figure_name: str, setting: Setting) -> str:
        return figure_name + (f"_{self.settings.index(setting) + 1}" if len(self.settings) > 1 else "")

    def _id(self) -> str:
        self.drawn += 1
        return f"figure{self.drawn}"

    def _drawn(self, drawn: Figure, description: str) -> str:
        return inline_svg(render(drawn, "svg"), self._id(), description)

    def curves(self, setting: Setting) -> str:
        columns = len(MEASURES)
        write_figure(curve_figure(setting, list(MEASURES), self.marks, columns=columns), self.folder,
                     self._name("learning_curves", setting))  # fmt: skip
        found = []
        for measure, words in MEASURES.items():
            description = f"{words} against training steps on {task_title(setting.task)}"
            drawn = curve_figure(setting, [measure], self.marks, legend=False)
            found.append(figure(self._drawn(drawn, description)))
        samples = legend_handles(setting.groups, self.marks)
        return self._key(samples) + grid(found)

    def _key(self, samples: Sequence[Line2D]) -> str:
        """A legend in HTML, so that it can wrap: a drawn line and its label for each sample."""
        lines = [f"{self._drawn(sample_figure(each), '')}{text(each.get_label())}" for each in samples]
        return f'<div class="key">{items(lines)}</div>'

    def positions(self, setting: Setting) -> str:
        groups = [group for group in setting.groups if group.finished]
        if not groups:
            return "<p>No run is finished yet, so this is not measured.</p>"
        drawn = position_figure(setting, groups, self.marks, columns=min(3, len(groups)))
        write_figure(drawn, self.folder, self._name("accuracy_by_position", setting))
        found = []
        for group in groups:
            description = f"Accuracy by answer position, forced and free-running: {group.label}"
            drawn = position_figure(setting, [group], self.marks, legend=False)
            found.append(figure(self._drawn(drawn, description)))
        return self._key(position_handles()) + grid(found)

    def examples(self) -> str:
        chosen = [(setting, shown) for setting in self.settings if (shown := choose(setting.groups))]
        if not chosen:
            return "<p>No run has kept test examples yet.</p>"
        drawn = _EXAMPLE if any(each.star is not None for _, shown in chosen for each in shown) else ""
        parts = [drawn, _CHOICE]
        for setting, shown in chosen:
            parts.append(sections.heading(setting, self.settings))
            prompts = dict.fromkeys((each.example.prompt, each.example.answer) for each in shown)
            for prompt, answer in prompts:
                parts.append(
                    f"<p>The prompt, and the right answer:</p><pre><code>{text(prompt)}\n{text(answer)}</code></pre>"
                )
            pictures = [self._example(each, setting, place) for place, each in enumerate(shown, start=1)]
            wide = any(each.star is not None and is_wide(each.star) for each in shown)
            parts.append("".join(pictures) if wide else grid(pictures))
        return "".join(parts)

    def _example(self, shown: Shown, setting: Setting, place: int) -> str:
        caption = (
            f"<b>{text(shown.group.label)}</b>, seed {shown.run.record.seed}: {text(said(shown))}."
            f'<div class="written">wrote {written(shown.example)}</div>'
        )
        if shown.star is None or shown.walk is None:
            return figure("", caption)
        mark = self.marks[shown.group.name]
        name = f"{self._name('example', setting)}_{place}"
        drawn = write_figure(star_figure(shown.star, shown.walk, mark), self.folder, name)
        description = f"Test graph with what {shown.group.label} wrote: {shown.walk.said}"
        return figure(inline_svg(drawn, self._id(), description), caption)

    def where(self) -> str:
        return (
            f'<p class="quiet">Every figure also lies in the folder <code>{text(self.folder.name)}</code> beside this '
            f"page, as SVG and PDF.</p>"
        )


_CURVES = """<p>Measured during training on test examples, one thin line a seed. A branch that stays on the dotted line
is a guess, however well everything else is learned.</p>"""

_POSITIONS = """<p>After training. <em>Forced</em>: the true answer so far is revealed, as in training.
<em>Free-running</em>: the model goes on from what it wrote itself.</p>"""

_EXAMPLE = """<p>The centre is on the left and every row is an arm. The yellow band is the right path and the ringed
node the goal. Arrows are what the model wrote: solid along an edge of the graph, dashed and bent where it jumped
between nodes that no edge joins. A tick or a cross marks how it ended.</p>"""

_CHOICE = """<p class="quiet">Shown is the first kept test example on which as many models as possible do what they
mostly do (right where a run solved the task, wrong where it did not), so it is chosen to be telling; all that were
kept are listed below.</p>"""
