"""The explanations that are the same in every report. Facts on the paper come from the paper; thresholds from the code
that applies them."""

from __future__ import annotations

from foresee.metrics.verdict import MEMORY_GAP, NEAR, RELIABLE, SOLVED

FAILURES = """
<p>A model trained to predict the next token is trained in one mode and used in another. In training it always sees the
true answer so far (<em>teacher forcing</em>); in use it sees only what it wrote itself. Bachmann and Nagarajan
(&ldquo;The pitfalls of next-token prediction&rdquo;, ICML 2024) keep apart two ways in which this goes wrong.</p>
<ul>
<li><b>Errors add up in use.</b> A model that knows every step well still slips now and then, and one slip spoils the
rest of a long answer. The model has learned the task; it only executes it imperfectly.</li>
<li><b>Teacher forcing teaches a shortcut.</b> Once part of the true answer is revealed, the rest can be completed by a
rule much simpler than planning. On a path-star graph: from the last node shown, step to its only child. That rule
(the paper calls it the Clever Hans cheat) explains every token but the first decision, so it takes up nearly all of the
training signal. What is left for the decision itself is one token with no steps in between to learn it from, and there
the model ends up guessing. In use it guesses an arm and then walks it perfectly, wherever the goal is.</li>
</ul>
<p>Training on the reversed answer removes the need to look ahead: from the goal, every step back to the centre is a
one-edge look-up. It therefore serves as the positive control: it shows that the model and the budget suffice for the
task. Teacherless training keeps the order but hides the true answer behind dummy tokens, so that there is nothing to
cheat from.</p>
"""

MEASURES = """
<dl>
<dt>exact</dt><dd>The share of test examples for which the model, writing freely and always taking its likeliest symbol,
gives the whole answer right.</dd>
<dt>branch</dt><dd>The share in which the one real decision, the second token of the answer (which arm to take), is
right. Chance is one over the number of arms.</dd>
<dt>forced and free</dt><dd>Accuracy at each position of the answer: <em>forced</em> with the true answer so far
revealed, <em>free</em> with the model&rsquo;s own. Forced near 1 everywhere but at the branch is the signature of the
shortcut. For an objective that never sees the true answer so far, forced values do not exist and are left out.</dd>
<dt>follow</dt><dd>The shortcut measured alone: put on a <em>wrong</em> arm, how often does the model walk that arm,
edge by edge, whatever the goal? The last token may be the arm&rsquo;s end or the goal, which the prompt names and a
model can copy.</dd>
<dt>follow to end</dt><dd>The same, where only the arm&rsquo;s own end counts.</dd>
<dt>train branch</dt><dd>The branch measured on training examples. Far above the test value means memorising.</dd>
<dt>child</dt><dd>The share of steps the model writes that are edges of the graph.</dd>
<dt>compounded</dt><dd>The product of the forced accuracies: what exact would be if errors only added up.</dd>
<dt>Intervals</dt><dd>Values in square brackets are 95&nbsp;% Wilson intervals. Seeds are listed one by one, because
outcomes tend to be all or nothing and an average would describe none of them.</dd>
</dl>
"""

RULES = f"""
<p>The verdict is the first of these rules that holds.</p>
<dl>
<dt>solved</dt><dd>exact is at least {SOLVED}.</dd>
<dt>memorised</dt><dd>branch is right on training examples at least {MEMORY_GAP} more often than on test examples, with
intervals that do not overlap, and the interval on test examples holds chance.</dd>
<dt>clever-hans</dt><dd>follow is at least {RELIABLE}, and the interval of branch holds chance or lies within {NEAR} of
it: the shortcut is learned, the decision is a guess.</dd>
<dt>compounding</dt><dd>every forced position is at least {RELIABLE}, and exact lies within {NEAR} of compounded.</dd>
<dt>unfitted</dt><dd>child is below {RELIABLE} and exact below chance: not even the shortcut is learned yet.</dd>
<dt>partial</dt><dd>anything else.</dd>
</dl>
<p>A verdict other than solved is marked <b>inconclusive</b> while reversed training with the same settings is not among
these runs or has not solved the task: a short run proves nothing.</p>
"""
