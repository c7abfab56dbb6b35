"""How pages are made: the templates, the charts that stand on a page as data, and its policy.

A page asks the network for nothing. Two scripts run on it, Vega's and the page's own, each known to its policy by its
digest; Vega interprets what charts ask for and compiles nothing. What comes from a run is text or JSON that no script
takes for a program.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup, escape

from foresee.report import charts, style

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
NOTHING = "–"
"""What stands where there is no number."""


class PageCharts:
    """The charts of a page: a template calls ``add`` where one is to stand, and ``data`` is what the scripts read."""

    def __init__(self) -> None:
        self._specs: dict[str, int] = {}
        self._charts: list[dict[str, Any]] = []

    def add(self, chart: alt.TopLevelMixin) -> int:
        """The number of a chart, which takes the width that there is."""
        spec = style.spec_of(chart) | {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
        data = {name: pd.DataFrame(rows) for name, rows in spec.pop("datasets", {}).items()}
        return self._keep(spec, data)

    def add_attention(self, rows: pd.DataFrame) -> int:
        """``add(attention(rows))``, quick for hundreds of them: their specs differ in nothing but the data."""
        return self._keep(_attention_spec(), {"rows": rows})

    def _keep(self, spec: dict[str, Any], data: dict[str, pd.DataFrame]) -> int:
        text = json.dumps(spec)
        for at, name in enumerate(data):
            text = text.replace(f'"{name}"', f'"d{at}"')
        number = self._specs.setdefault(text, len(self._specs))
        self._charts.append({"spec": number, "data": {f"d{at}": _pack(rows) for at, rows in enumerate(data.values())}})
        return len(self._charts) - 1

    def data(self) -> str:
        """JSON that no HTML parser takes for markup."""
        whole = {"specs": list(map(json.loads, self._specs)), "charts": self._charts, "config": style.CONFIG,
                 "dark": style.DARK}  # fmt: skip
        return json.dumps(whole, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _attention_spec() -> dict[str, Any]:
    spec = style.spec_of(charts.attention(pd.DataFrame({"head": ["1.1"], "read": ["0000 a"], "weight": [1.0]})))
    return {name: value for name, value in spec.items() if name != "datasets"} | {"data": {"name": "rows"}}


def _pack(rows: pd.DataFrame) -> dict[str, Any]:
    """Columns, those of texts as numbers of distinct values: about a third of the size of records."""
    packed: dict[str, Any] = {}
    for name, column in rows.items():
        if pd.api.types.is_numeric_dtype(column):
            packed[str(name)] = [None if pd.isna(value) else value for value in column.tolist()]
        else:
            codes, values = pd.factorize(column)
            packed[str(name)] = {"codes": codes.tolist(), "values": list(values)}
    return packed


def render_page(template: str, title: str, **context: Any) -> str:
    """A page from a template that extends ``page.html.j2``, with its charts, scripts and policy. It has no date: the
    same context gives the same bytes."""
    scripts = [_vega(), _asset("page.js")]
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    known = " ".join(f"'sha256-{digest}'" for digest in digests)
    context |= {"title": title, "policy": f"{POLICY}; script-src {known}", "scripts": scripts, "charts": charts}
    return environment().get_template(template).render(context, css=_asset("page.css"), page=PageCharts())


@cache
def environment() -> jinja2.Environment:
    """The templates. All but tables for papers escape what they show; characters that HTML forbids become question
    marks."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("foresee.report"), trim_blocks=True, lstrip_blocks=True, finalize=_printable,
        undefined=jinja2.StrictUndefined, autoescape=lambda name: not str(name).endswith((".md.j2", ".tex.j2")),
    )  # fmt: skip
    found.filters |= {
        "count": count_of, "duration": show_duration, "rate": show_rate, "listed": listed, "one_line": _one_line,
        "latex": lambda text: "".join(_LATEX.get(sign, sign) for sign in _one_line(text)),
        "options": mark_options,
        "markdown": lambda text: re.sub(r"([\\|*_`<>])", r"\\\1", _one_line(text)),
    }  # fmt: skip
    return found


def mark_options(text: str) -> Markup:
    """Text with the names of options, as in ``--seed``, as code that is not broken over two lines."""
    return Markup(re.sub(r"--[a-z-]+", r'<code class="option">\g<0></code>', str(escape(_printable(text)))))


def _printable(value: object) -> object:
    return style.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _vega() -> str:
    """Vega, Vega-Lite and their interpreter, as vl-convert holds them; closed in, so that no names clash."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return "(() => {" + bundle.replace("</script", "<\\/script").replace("<!--", "\\x3C!--") + "})();"


def _asset(name: str) -> str:
    return (resources.files("foresee.report") / "assets" / name).read_text(encoding="utf-8")


def show_rate(row: Any) -> str:
    """A rate with its interval, such as "0.497 [0.475, 0.519]"; a dash where it was not measured."""
    if not isinstance(row, Mapping):
        return NOTHING
    return f"{row['value']:.3f}" + (f" [{row['low']:.3f}, {row['high']:.3f}]" if "low" in row else "")


def show_duration(seconds: float) -> str:
    """Seconds up to two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count_of(count: int, noun: str, plural: str = "") -> str:
    """A number and what is counted."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: list[str]) -> str:
    """Names joined as in a sentence."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _one_line(value: object) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in str(value)).split())


_LATEX = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "×": r"$\times$", "–": "--", "·": r"$\cdot$",
    **{sign: "\\" + sign for sign in "{}$&#%_"},
    # A bracket that opens a cell would be read as the optional argument of the line break before it.
    "[": "{[}", "]": "{]}",
}  # fmt: skip
