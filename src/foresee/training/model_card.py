"""What an exported checkpoint says of itself: a model card in Markdown."""

from __future__ import annotations

from foresee.core.seeds import stream
from foresee.metrics.base import Row
from foresee.metrics.verdict import plain_words
from foresee.report.words import flat, verdict_name
from foresee.tasks.stored import StoredTask
from foresee.training.run import Run

DECODING = {
    "forward": "Answers are written token by token from left to right, as `generate` does.",
    "backward": "Answers are written token by token **backwards**, last token first; reverse what `generate` gives.",
    "parallel": (
        "Answers are read off in **one pass**: the prompt is followed by dummy tokens, and each answer token is the "
        "likeliest one at its place. `generate` does not do that; `foresee` does."
    ),
}


def model_card(run: Run, model: str, name: str) -> str:
    """Markdown with the metadata that model hubs read; ``model`` is the name of the library's class."""
    objective = run.objective
    heads = [key for key, _ in objective.named_parameters() if not key.startswith("backbone.")]
    kept_back = (
        f"\nThe objective's own weights ({', '.join(heads)}) are not part of this checkpoint.\n" if heads else ""
    )
    tokens, _ = next(run.task.sample(run.task.group, stream("model card", run.spec.task)).pairs())
    # A user's rows are theirs: none of them is written into a file that may be published.
    prompt = "your prompt" if isinstance(run.task, StoredTask) else run.task.write_line(tokens, [])
    end = run.task.end
    most = run.task.answer_length_of(tokens) if end is None else run.task.answer_length
    stop = "" if end is None else f", eos_token_id={objective.backbone.counterpart_ids()[end]}"
    rows = "\n".join(
        f"| {label} | {row['value']:.4f} | {_interval(row)} | {row['n']:,} |" for label, row in _listed(run)
    )
    settings = "\n".join(f"| {key} | `{_cell(value)}` |" for key, value in flat(run.spec.model_dump()).items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- foresee
- next-token-prediction
---

# {name}

A `{model}` trained with the objective `{run.spec.objective}` on the task `{run.spec.task}`, from the backbone
`{run.spec.backbone}`, for {run.steps:,} steps. It is a model for research on training objectives: it writes answers to
this task and nothing else.

**Verdict: {verdict_name(run.verdict)}.** {plain_words(run.verdict)} (Rule: {run.verdict.because}.)

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
prompt = tokenizer("{prompt}", return_tensors="pt", add_special_tokens=False)
answer = model.generate(**prompt, max_new_tokens={most}, do_sample=False{stop})
```

{DECODING[objective.order]} Logits are those of the trained run; only the {len(objective.vocab)} tokens of the task's
vocabulary were trained (`foresee.json` lists symbols and tokens), so compare scores among those alone.
{kept_back}
## Measured

| row | value | 95 % interval | n |
|---|---|---|---|
{rows}

## Trained with

```
{run.spec.command}
```

| setting | value |
|---|---|
{settings}
"""


def _listed(run: Run) -> list[tuple[str, Row]]:
    listed: list[tuple[str, Row]] = []
    for name, row in run.rows.items():
        each = [(f"{name}[{place}]", one) for place, one in enumerate(row)] if isinstance(row, list) else [(name, row)]
        listed += each
    return listed


def _interval(row: Row) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""


def _cell(value: str) -> str:
    return value.replace("|", "\\|")
