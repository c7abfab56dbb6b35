"""A diagnosis in, one self-contained page out: no script, nothing asked of the network, the same bytes for the same
diagnosis."""

from __future__ import annotations

from pathlib import Path

from foresee.core import files
from foresee.core.spec import brief
from foresee.experiments.diagnose.result import Diagnosis
from foresee.objectives.base import objectives
from foresee.report.diagnosis import sections
from foresee.report.markup import text
from foresee.report.page import asset
from foresee.report.style import marks
from foresee.tasks.base import tasks

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
TITLE = "Will teacher forcing cheat on this data?"

STYLE = """
main { max-width: 1040px; } section { margin-top: 44px; } h2 { display: block; margin-bottom: 12px; }
.verdict .badge { font-size: 1.3rem; padding: 4px 20px; margin: 10px 0 2px; border-width: 2px; white-space: normal; }
.plot { max-width: 640px; }
.wide { display: grid; gap: 18px 30px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
mark.decides { background: var(--goal); color: #1c2127; font-weight: 700; border-radius: 3px; padding: 1px 2px; }
.hard { border-bottom: 2px dotted var(--bad); } .given { color: var(--quiet); background: var(--wash); }
.shown { margin: 14px 0 20px; padding: 10px 14px; border: 1px solid var(--line); border-radius: 8px; }
.shown pre { margin: 0 0 8px; } .response { margin: 0; font-size: 1rem; line-height: 1.8; max-width: none; }
.response span, .response mark { margin-right: 3px; } .tablebox { overflow-x: auto; }
p, li, dd, summary { overflow-wrap: anywhere; } .badge { max-width: 100%; overflow-wrap: anywhere; }
.wide > figure { min-width: 0; } .facts dd { overflow-wrap: anywhere; min-width: 0; }
"""


def write_page(found: Diagnosis, out: Path) -> Path:
    """Writes the page and returns ``out``."""
    files.write_text(out, page(found))
    return out


def page(found: Diagnosis) -> str:
    """The whole page."""
    names = [each.objective for each in found.learned]
    labels = {name: brief(objectives, name) for name in names}
    colours = marks(names)
    parts = [
        ("", sections.verdict(found)),
        ("Which objective learned it", sections.objectives(found, labels, colours)),
        ("What shown tokens give away", sections.losses(found)),
        ("Decision tokens", sections.decisions(found)),
        ("Written freely", sections.accuracy(found)),
    ]
    if found.data is not None:
        parts.append(("The data", sections.data(found.data)))
    parts.append(("How to reproduce this", sections.reproduce(found, sections.command_of(found))))
    body = "".join(
        f"<section>{f'<h2>{text(heading)}</h2>' if heading else ''}{content}</section>" for heading, content in parts
    )
    about = f"{brief(tasks, found.question.task)}: {found.held_out:,} held-out rows"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(TITLE)}</title>'
        f"<style>{asset('page.css')}{STYLE}</style></head>\n<body><main><h1>{text(TITLE)}</h1>"
        f'<p class="quiet about">{text(about)}</p>{body}</main></body></html>\n'
    )
