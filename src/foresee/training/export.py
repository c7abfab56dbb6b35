"""A trained run as a standard checkpoint folder, for ``AutoModelForCausalLM.from_pretrained``.

The folder holds the backbone's counterpart in the transformers library, a tokenizer, a model card, and
``foresee.json`` with the run's spec, rows, verdict and vocabulary. Weights that belong to an objective alone (its own
heads, say) are not part of it: a standard model has no place for them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from foresee.core import files
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError
from foresee.training.model_card import model_card
from foresee.training.run import Run


def export(run: Run, folder: str | Path) -> Path:
    """Writes the checkpoint folder and returns its path.

    Raises ``RequestError`` where the folder exists and is not empty, where the run's backbone has no counterpart, or
    where the objective decodes by more than the backbone,
    and ``ForeseeError`` where the disk is full. The folder is whole or absent: it is written under another name first.
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
