"""A study on the page: published beside measured, cell by cell, agreement marked, and the claims with their tests."""

from __future__ import annotations

from foresee.experiments.studies.base import TAGS, Agreement
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.metrics.significance import Claim
from foresee.report.book import Book, source
from foresee.report.costs import duration
from foresee.report.markup import items, text
from foresee.report.sections import cell
from foresee.report.svg import drawing, short
from foresee.report.words import number

SIGNS: dict[Agreement, str] = {
    "agrees": "✓", "differs": "✗", "mixed": "±", "not reached": "…", "unknown": "?", "not run": "–",
}  # fmt: skip
KINDS: dict[Agreement, str] = {
    "agrees": "good", "differs": "bad", "mixed": "open", "not reached": "open", "unknown": "none", "not run": "none",
}  # fmt: skip
MEANINGS: dict[Agreement, str] = {
    "agrees": "every finished seed agrees with what is published",
    "differs": "no finished seed agrees with it",
    "mixed": "some seeds agree and some do not",
    "not reached": "no seed of these smaller runs came as far: none solved, or none learned even the easy part",
    "unknown": "no published number is known to us",
    "not run": "no seed is finished",
}
HEAD = ("published", "measured", "side by side", "agreement", "solved", "half solved by", "verdicts")


def studies(book: Book) -> str:
    """Every study, one after the other."""
    return "".join(_study(book, study) for study in book.studies)


def _study(book: Book, study: StudyResult) -> str:
    counted = {name: sum(cell.agreement == name for cell in study.cells) for name in SIGNS}
    outcome = ", ".join(f"{name} {count}" for name, count in counted.items() if count)
    state = "" if study.complete else f" {study.runs_finished} of {study.runs_wanted} runs are finished."
    head = "".join(f'<th scope="col">{name}</th>' for name in ("graph", *HEAD))
    rows = "".join(_cell(book, each) for each in study.cells)
    legend = "".join(f"<li>{_agreement(name)} {text(MEANINGS[name])}</li>" for name in SIGNS if counted[name])
    spent = (
        f'<p class="quiet">Cost: {text(study.cost)}. Measured on: {text(study.hardware)}. '
        f"{study.runs_finished} of {study.runs_wanted} runs finished, {text(duration(study.seconds))} of training.</p>"
    )
    parts = [
        f"<h3>{text(study.name)}, {text(study.scale)} scale</h3>",
        f'<p class="lead">{text(study.question)}</p>',
        f"<p>{len(study.cells)} cells: {text(outcome)}.{text(state)}</p>",
        f'<ul class="legend">{legend}<li>{_key()}</li></ul>',
        f'<table class="results sortable study"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>',
        _notes(study),
        _claims(study),
        spent,
        "".join(f'<p class="warning">Left out: {text(warning)}</p>' for warning in study.warnings),
        source(f"All of this table: <code>{text(study.reproduce)}</code>. Each row links to the commands of its runs."),
    ]
    return f'<div class="one-study">{"".join(parts)}</div>'


def _agreement(name: Agreement) -> str:
    return f'<span class="badge {KINDS[name]}">{SIGNS[name]} {text(name)}</span>'


def _cell(book: Book, each: CellResult) -> str:
    tag = "" if each.tag == "unknown" else f' <abbr title="{text(TAGS[each.tag])}">{text(each.tag)}</abbr>'
    first = (
        f'<div class="name">{text(each.graph)}</div><div>{text(each.label)}</div>'
        f'<div class="quiet">{text(each.row)}, chance {each.chance:.3g}</div>'
    )
    if each.seeds:
        first += f'<div class="quiet">{book.again_run(each.seeds[0].run)}</div>'
    cells = f'<td data-label="published"><div class="wrap">{text(each.published_text)}{tag}</div></td>'
    cells += cell("measured", _measured(each), each.mean)
    cells += f'<td data-label="side by side">{_beside(each)}</td>'
    caveat = '<div class="quiet">inconclusive</div>' if each.inconclusive else ""
    cells += f'<td data-label="agreement"><div>{_agreement(each.agreement)}{caveat}</div></td>'
    cells += cell("solved", [f"{sum(seed.solved for seed in each.seeds)} of {len(each.seeds)}" if each.seeds else "–"])
    half = each.median_steps
    cells += cell("half solved by", [f"step {half:,.0f}" if half is not None else "–"], 1e12 if half is None else half)
    cells += cell("verdicts", _verdicts(each.seeds) or ["–"])
    return f'<tr><td class="who">{first}</td>{cells}</tr>'


def _measured(each: CellResult) -> list[str]:
    """A line a seed with its interval; what is missing."""
    lines = [f"{number(seed.value)} [{number(seed.low)}, {number(seed.high)}]" for seed in each.seeds]
    missing = each.seeds_wanted - len(each.seeds)
    if not lines:
        return ["not run"]
    return [*lines, f"{missing} to run"] if missing else lines


def _verdicts(seeds: tuple[SeedResult, ...]) -> list[str]:
    names = [seed.verdict + ("?" if seed.inconclusive else "") for seed in seeds]
    return [name if names.count(name) == 1 else f"{name} × {names.count(name)}" for name in dict.fromkeys(names)]


WIDTH, INSET = 150.0, 7.0


def _beside(each: CellResult) -> str:
    """From 0 to 1: what is published above, a dot and its interval a seed below, chance as a dotted line."""

    def x(value: float) -> float:
        return INSET + max(0.0, min(1.0, value)) * (WIDTH - 2 * INSET)

    height = 22.0 + 8.0 * max(1, len(each.seeds))
    inside = f'<path class="grid" d="M{short(x(0))} 3V{short(height - 3)}M{short(x(1))} 3V{short(height - 3)}"/>'
    inside += f'<path class="chance" d="M{short(x(each.chance))} 2V{short(height - 2)}"/>'
    if each.published_low is not None and each.published_high is not None:
        low, high = x(each.published_low), x(each.published_high)
        if high - low < 4:
            middle = (low + high) / 2
            low, high = middle - 2, middle + 2
        inside += f'<path class="published" d="M{short(low)} 10H{short(high)}"/>'
    for at, seed in enumerate(each.seeds):
        y = 22.0 + 8.0 * at
        inside += f'<path class="interval" d="M{short(x(seed.low))} {short(y)}H{short(x(seed.high))}"/>'
        inside += f'<circle class="measured" cx="{short(x(seed.value))}" cy="{short(y)}" r="3"/>'
    described = (
        f"Published {each.published_text}; measured {', '.join(number(seed.value) for seed in each.seeds) or 'not'}"
    )
    return drawing(WIDTH, height, inside, described, "forest")


def _key() -> str:
    """What the small drawings of a row show."""
    inside = '<path class="published" d="M4 8H16"/><text x="21" y="12">published</text>'
    inside += '<path class="interval" d="M84 8H100"/><circle class="measured" cx="92" cy="8" r="3"/>'
    inside += '<text x="105" y="12">a seed</text><path class="chance" d="M152 1V15"/><text x="159" y="12">chance</text>'
    return drawing(
        204, 16, inside, "Key: bar published, dot a seed with its interval, dotted line chance", "forest key"
    )


def _notes(study: StudyResult) -> str:
    lines = []
    if any(each.inconclusive for each in study.cells):
        lines.append("Inconclusive (?): the positive control has not been seen to solve within this budget.")
    own = {seed.run for each in study.cells for seed in each.seeds}
    for graph, seeds in dict.fromkeys((each.graph, each.controls) for each in study.cells):
        if seeds and not {seed.run for seed in seeds} <= own:
            solved = sum(seed.solved for seed in seeds)
            measured = ", ".join(number(seed.exact) for seed in seeds)
            lines.append(f"Control on {graph} (reversed): {solved} of {len(seeds)} solved, exact {measured}.")
    lines += [f"Agreement: {rule}." for rule in dict.fromkeys(each.rule for each in study.cells)]
    for where, tag in dict.fromkeys((each.source, each.tag) for each in study.cells):
        lines.append(f"Published: {where}" + ("." if tag == "unknown" else f" ({tag}: {TAGS[tag]})."))
    lines += [f"{note}" for note in dict.fromkeys(each.note for each in study.cells) if note]
    return f'<div class="notes">{items(text(line) for line in lines)}</div>'


def probability(p: float) -> str:
    """A p-value: three decimals, or its order of magnitude."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p >= 1e-99 else "< 1e-99"


CLAIMS = ("test", "statistic", "p", "corrected p", "n", "shown")


def _claims(study: StudyResult) -> str:
    parts = []
    if study.claims:
        head = "".join(f'<th scope="col">{name}</th>' for name in ("claim", *CLAIMS))
        rows = "".join(map(_claim, study.claims))
        parts.append(
            f'<h4>What these runs show</h4><table class="results sortable"><thead><tr>{head}</tr></thead>'
            f'<tbody>{rows}</tbody></table><p class="quiet">p is corrected for all claims of the study (Holm). Not '
            "shown is not refuted: few seeds show little.</p>"
        )
    if study.untested:
        lines = items(text(sentence) for sentence in study.untested)
        parts.append(
            f"<details><summary>{len(study.untested)} claims not tested, since so few runs could not show them "
            f"whatever they did</summary>{lines}</details>"
        )
    return "".join(parts)


def _claim(claim: Claim) -> str:
    found = claim.evidence
    least = found.least is not None and found.p <= found.least * (1 + 1e-9)
    shown = '<span class="badge good">✓ yes</span>' if claim.shown else '<span class="badge none">no</span>'
    return (
        f'<tr><td class="who">{text(claim.sentence)}</td>'
        f'<td data-label="test"><div class="wrap">{text(found.name)}</div></td>'
        + cell("statistic", [f"{found.statistic:.3f}"], found.statistic)
        + cell("p", [probability(found.p) + (" (least possible)" if least else "")], found.p)
        + cell("corrected p", [probability(claim.corrected)], claim.corrected)
        + cell("n", [f"{found.n:,} {found.unit}"], found.n)
        + f'<td data-label="shown"><div>{shown}</div></td></tr>'
    )
