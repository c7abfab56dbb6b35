"""A trained run as a standard checkpoint folder, for ``AutoModelForCausalLM.from_pretrained``.

The folder holds the backbone's counterpart in the transformers library, a tokenizer, a model card, and ``foresee.json``
with the run's settings, rows, verdict and vocabulary. Weights that belong to an objective alone (its own heads, say)
are not part of it: a standard model has no place for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foresee.backbones.base import describe_backbone
from foresee.backbones.counterparts import word_tokenizer, write_as_text
from foresee.core import files
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError, require_package
from foresee.core.seeds import stream
from foresee.metrics.verdict import plain_words
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training.run import Run
from foresee.training.summary import list_measurements

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def export(run: Run, folder: str | Path) -> Path:
    """Writes the checkpoint folder and returns its path.

    Raises ``RequestError`` where the folder exists and is not empty, where the run's backbone has no counterpart, or
    where the objective decodes by more than the backbone, and ``ForeseeError`` where the disk is full. The folder is
    whole or absent: it is written under another name first.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} exists and is not an empty folder; choose another for the checkpoint")
    require_package("transformers", "hf", "an export")
    objective = run.objective
    if not objective.backbone_alone:
        raise RequestError(
            f"objective {run.spec.objective} decodes with weights of its own beside the backbone's, for which a "
            "standard checkpoint has no place; load the run with foresee.load instead"
        )
    model, ids = objective.backbone.counterpart(), objective.backbone.counterpart_ids()
    if isinstance(run.task, Data):
        tokenizer = run.task.coding.tokenizer.for_library(objective.vocab, ids)
    else:
        tokenizer = word_tokenizer(objective.vocab, ids)
        end = None if run.task.end is None else objective.vocab.symbols[run.task.end]
        write_as_text(tokenizer, run.task.text, end)
    from transformers import GenerationConfig

    table: Any = model.get_input_embeddings()
    # A checkpoint's own settings, as a penalty on repetition, are for chatting and would change what is written.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it without types
        # Rows of the table that were not trained have scores that nobody has brought down.
        suppress_tokens=sorted(set(range(len(table.weight))) - set(ids)) or None,
        # Written in another order, it is not what comes last.
        eos_token_id=None if run.task.end is None or objective.order != "forward" else ids[run.task.end],
    )
    described = {
        **run.json(),
        "dir": run.dir.name,
        "spec": run.spec.model_dump(),
        "vocabulary": list(objective.vocab),
        "tokens": list(ids),
    }
    with files.new_folder(folder) as written:
        with quiet():
            model.save_pretrained(written)
        tokenizer.save_pretrained(written)
        files.write_json(written / "foresee.json", described)
        files.write_text(written / "README.md", model_card(run, model, tokenizer, folder.name))
    return folder


def model_card(run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """Markdown with the metadata that model hubs read, for an exported folder of this ``name``."""
    import jinja2

    # Markdown, not HTML: nothing is to be escaped.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8"))
    task, objective, ids = run.task, run.objective, run.objective.backbone.counterpart_ids()
    if isinstance(task, Data) and run.examples:  # its file may be gone
        tokens, _ = task.read_line(run.examples[0]["prompt"])
    else:
        tokens, _ = next(task.sample(task.group, stream("model card", run.spec.task)).pairs())
    longest = task.answer_length_of(tokens) if task.end is None else task.answer_length
    end = task.end if objective.order == "forward" else None
    filled = {
        "length": longest, "end": "" if end is None else f", eos_token_id={ids[end]}",
        "steps": getattr(objective, "steps", None) or longest,
        "symbol": next((ids[objective.vocab.token(symbol)] for symbol in objective.symbols), None),
    }  # fmt: skip
    return template.render(
        name=name,
        model=type(model).__name__,
        run=run,
        spec=run.spec,
        settings=run.spec.model_dump(),
        verdict=run.verdict,
        words=plain_words(run.verdict),
        told=longest if objective.usage and task.end is not None and end is None else None,
        usage=objective.usage.format(**filled),
        symbols=len(objective.vocab),
        own=[key for key, _ in objective.named_parameters() if not key.startswith("backbone.")],
        rows=list(list_measurements(run.rows)),
        prompt=_prompt_code(task, tokenizer, tokens, [ids[token] for token in tokens]),
        remark=describe_backbone(run.spec.backbone),
        labels=[
            f"{label} = {word.strip()}"
            for label, word in zip(objective.vocab, objective.backbone.label_words(), strict=False)
        ],
    )


def _prompt_code(task: Task, tokenizer: PreTrainedTokenizerBase, tokens: list[int], wanted: list[int]) -> str:
    """What to give the tokenizer, as Python, so that a prompt of the user's becomes what prompts were trained as: with
    what frames them. ``tokens`` are those of some prompt, ``wanted`` the same in the exported model's numbers."""
    shown = prompt = task.write_prompt(tokens)
    before = after = ""
    if isinstance(task, Data):
        # A user's rows are theirs: none of them is written into a file that may be published.
        shown, (before, after) = "your prompt", task.frame
    plain = ", add_special_tokens=False"
    for left, right, options in (("", "", plain), ("", "", ""), (before, after, plain)):
        if tokenizer(left + prompt + right, add_special_tokens=not options).input_ids == wanted:
            break
    return json.dumps(left + shown + right, ensure_ascii=False) + options
