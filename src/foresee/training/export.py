"""A trained run as a standard checkpoint folder, for ``AutoModelForCausalLM.from_pretrained``.

The folder holds the backbone's counterpart in the transformers library, a tokenizer, a model card, and ``foresee.json``
with the run's settings, rows, verdict and vocabulary. Weights that belong to an objective alone (its own heads, say)
are not part of it: a standard model has no place for them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from foresee.core import files
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.metrics.verdict import plain_words
from foresee.tasks.stored import StoredTask
from foresee.training.run import Run


def export(run: Run, folder: str | Path) -> Path:
    """Writes the checkpoint folder and returns its path.

    Raises ``RequestError`` where the folder exists and is not empty, where the run's backbone has no counterpart, or
    where the objective decodes by more than the backbone, and ``ForeseeError`` where the disk is full. The folder is
    whole or absent: it is written under another name first.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} exists and is not an empty folder; choose another for the checkpoint")
    objective = run.objective
    if not objective.backbone_alone:
        raise RequestError(
            f"objective {run.spec.objective} decodes with weights of its own beside the backbone's, for which a "
            "standard checkpoint has no place; load the run with foresee.load instead"
        )
    model = objective.backbone.counterpart()
    described = {
        **run.json(),
        "dir": run.dir.name,
        "spec": run.spec.model_dump(),
        "vocabulary": list(objective.vocab),
        "tokens": list(objective.backbone.counterpart_ids()),
    }
    with files.explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=files.TEMPORARY))
        try:
            with quiet():
                model.save_pretrained(written)
            objective.backbone.counterpart_tokenizer(objective.vocab).save_pretrained(written)
            files.write_json(written / "foresee.json", described)
            files.write_text(written / "README.md", model_card(run, type(model).__name__, folder.name))
            written.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            written.rename(folder)
        finally:
            shutil.rmtree(written, ignore_errors=True)
    return folder


def model_card(run: Run, model: str, name: str) -> str:
    """Markdown with the metadata that model hubs read; ``model`` is the name of the library's class."""
    import jinja2

    # Markdown, not HTML: nothing is to be escaped.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8"))
    task, objective = run.task, run.objective
    tokens, _ = next(task.sample(task.group, stream("model card", run.spec.task)).pairs())
    rows = [
        (f"{label}[{place}]" if isinstance(row, list) else label, one)
        for label, row in run.rows.items()
        for place, one in enumerate(row if isinstance(row, list) else [row])
    ]
    return template.render(
        name=name,
        model=model,
        run=run,
        spec=run.spec,
        settings=run.spec.model_dump(),
        verdict=run.verdict,
        words=plain_words(run.verdict),
        order=objective.order,
        symbols=len(objective.vocab),
        own=[key for key, _ in objective.named_parameters() if not key.startswith("backbone.")],
        rows=rows,
        # A user's rows are theirs: none of them is written into a file that may be published.
        prompt="your prompt" if isinstance(task, StoredTask) else task.write_line(tokens, []),
        longest=task.answer_length_of(tokens) if task.end is None else task.answer_length,
        end=None if task.end is None else objective.backbone.counterpart_ids()[task.end],
    )
