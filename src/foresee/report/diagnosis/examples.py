"""Held-out examples with the decision tokens highlighted."""

from __future__ import annotations

from foresee.experiments.diagnose.decisions import EASY, GIVEN
from foresee.experiments.diagnose.examples import Shown, Token
from foresee.report.markup import details, text

SHORTEST_PROMPT = 300
"""Characters from which on a prompt is folded away."""


def example(shown: Shown) -> str:
    """A prompt and its response. Every token carries its two losses as a title."""
    prompt = f"<pre><code>{text(shown.prompt)}</code></pre>"
    if len(shown.prompt) > SHORTEST_PROMPT:
        prompt = details(f"the prompt, {len(shown.prompt):,} characters", prompt)
    return f'<div class="shown">{prompt}<p class="response mono">{"".join(map(_token, shown.tokens))}</p></div>'


def _token(token: Token) -> str:
    kind = "decides" if token.decision else "hard" if token.hard else "given" if _given(token) else "plain"
    title = f"shown {token.shown:.2f} nats, hidden {token.hidden:.2f} nats"
    name = "mark" if token.decision else "span"
    shown = f'<{name} class="{kind}" title="{text(title)}">{text(_visible(token.text))}</{name}>'
    return f"{text(token.before)}{shown}<wbr>"


def _given(token: Token) -> bool:
    return token.shown <= EASY and token.hidden - token.shown >= GIVEN


def _visible(symbol: str) -> str:
    """White space that can be seen."""
    return symbol.replace("\n", "\u21b5").replace("\t", "\u21e5").replace(" ", "\u2423")
