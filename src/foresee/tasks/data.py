"""Your own data: prompts and responses from a file, read as they are.

What a problem is, and what counts as right, is what the file says: two rows hold the same problem where their prompts
are the same tokens, and a response is right where some row gives it to that prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy
import torch
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint_ragged
from foresee.core.vocabulary import Vocabulary
from foresee.datasets.cache import Rows
from foresee.datasets.coding import Coding
from foresee.datasets.dataset import DataSet
from foresee.datasets.fields import Fields
from foresee.datasets.request import Request
from foresee.tasks.base import Task, tasks

MOVED = "the run's rows are needed here, and --data FILE says where they lie now"
"""What to do where they have moved."""


class StoredRows:
    """Those rows of a data set whose numbers are ``index``, read from disk as they are asked for."""

    def __init__(self, stored: DataSet, index: Rows) -> None:
        self._stored, self._index = stored, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and answer."""
        return self._stored.pair(int(self._index[row]))

    def lengths(self, rows: Rows) -> Rows:
        """[n] numbers of rows -> [n, 2] tokens of their prompts and answers."""
        return self._stored.lengths(self._index[rows])

    def batch(self, rows: Rows | Sequence[int]) -> Batch:
        """These rows in this order, as wide as the longest of them; shorter ones are padded with token 0."""
        tokens, lengths = self._stored.gather(self._index[numpy.asarray(rows, numpy.int64)])
        return Batch.of(torch.from_numpy(tokens), torch.from_numpy(lengths[:, 0]), torch.from_numpy(lengths[:, 1]))


@tasks.register(
    "data",
    later=("template", "turns"),
    renamed={"response": "answer", "max_response": "max_answer", "test": "test_file"},
)
@dataclass(frozen=True, kw_only=True)
class Data(Request, Task):
    """The rows of a file. ``path``: JSON lines (.jsonl, .json), .csv or .tsv, each also with .gz, .parquet, .arrow, or
    a folder (saved by ``datasets``, or from the Hub). ``prompt``, ``answer``: the two fields, of text or numbers
    (``response`` where there is no ``answer`` and none is named).

    ``tokenizer``: "characters", "bytes", "words" (runs of letters and digits, and single marks; white space is not
    kept), or "hf:CHECKPOINT", a checkpoint's own. ``vocabulary``: how many different characters or words there may be;
    the rarer ones are ``<unknown>``. ``tokens``, for a checkpoint's tokenizer: "seen", only the tokens that occur in
    the files are the task's symbols, or "all".

    ``boundary``: "symbol" closes every prompt with a symbol of its own, without which a model cannot tell a short
    prompt from the start of a longer one; "none"; "auto": a symbol, but none with a checkpoint's tokenizer.
    ``ending``: "symbol" closes every response with ``end``, a symbol of its own or the checkpoint's end-of-text token;
    "none", for responses of one length: where they end is then known, and no easy token is added to what is learned.

    ``max_prompt``, ``max_answer``: a row with more tokens of text is bad; nothing is cut, since a part of a prompt
    is another problem and a part of a response is wrong. ``skip_bad``: leaves bad rows out; otherwise the first is an
    error.

    ``test_file``: a second file, whose rows are the test split; rows of the first whose prompt is in it are then not
    trained on. Without one, one prompt in eight, by a hash of its tokens, belongs to the test split. A folder with
    splits named train and test brings its own.

    ``chance`` is the share of rows that hold the most frequent response without an unknown token.

    Raises ``RequestError`` on a file, a row or an option that cannot be used.
    """

    summary: ClassVar[str] = "prompts and responses of your own, from JSON lines, CSV, Parquet or a datasets folder"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stored  # noqa: B018  # so that a bad file is refused here and not in the middle of a run

    @cached_property
    def stored(self) -> DataSet:
        """The rows in the cache."""
        known = vars(self).get("coding")
        if known is not None:
            try:
                self.files()
            except RequestError as error:
                raise RequestError(f"{error}; {MOVED}") from None
        found = DataSet(self, known)
        vars(self)["coding"] = found.coding  # rows may be longer than those that a run was trained on
        return found

    @cached_property
    def coding(self) -> Coding:
        """How text becomes tokens."""
        return self.stored.coding

    def keep(self) -> Mapping[str, Any]:
        """What a run keeps as JSON, so that its model can be used without the files, or with others."""
        return self.coding.keep(self.fields)

    @classmethod
    def restore(cls, options: Mapping[str, Any], kept: Path) -> Self:
        """The task of these options by the file of what was kept; its own are read once its rows are asked for. Raises
        ``RequestError`` where that file is damaged."""
        request = Request.of(options)
        coding, fields = Coding.read(kept, request)
        return cls._coded(request, coding, fields)

    @classmethod
    def _coded(cls, request: Request, coding: Coding, fields: Fields) -> Self:
        made = object.__new__(cls)  # without reading the files
        vars(made).update(asdict(request), coding=coding, fields=fields)
        return made

    def at(self, place: Path, *, whole: bool = False) -> Self:
        """The same task on the rows of other files, all of which are for testing where they are taken ``whole``."""
        moved = replace(Request.of(vars(self)), path=str(place))
        return self._coded(replace(moved, test_file=str(place)) if whole else moved, self.coding, self.fields)

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        """16 hexadecimal characters of the files that these options name, so that a run on another content is another
        run. Raises ``RequestError`` where one is missing."""
        return Request.of(options).digest()

    @property
    def vocab(self) -> Vocabulary:
        return self.coding.vocab

    @property
    def chance(self) -> float:
        return self.coding.chance

    @property
    def prompt_length(self) -> int:
        return self.coding.longest[0]

    @property
    def answer_length(self) -> int:
        return self.coding.longest[1]

    @property
    def end(self) -> int | None:
        return self.coding.end

    @property
    def unknown(self) -> int | None:
        return self.coding.tokenizer.unknown

    @property
    def frame(self) -> tuple[str, str]:
        """What stands before and after the text of every prompt, as the names of its symbols."""
        cut = self.coding.tokenizer
        return "".join(cut.symbols[token] for token in cut.before), "".join(cut.symbols[token] for token in cut.after)

    def rows(self, split: Literal["train", "test"]) -> StoredRows:
        """All rows of a split, in the order of the file. Training goes over them epoch after epoch, and tests are of
        rows none of which comes twice."""
        return StoredRows(self.stored, self.stored.split(split))

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        """``n`` rows drawn with replacement, of the test file too where there is one."""
        rows = numpy.arange(len(self.stored))
        return StoredRows(self.stored, rows).batch(rng.integers(len(rows), size=n))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The first stored response to the prompt: a look-up, since nothing else knows the answer; so this checks no
        row, unlike the ``solve`` of other tasks. Raises ``RequestError`` where no row has the prompt."""
        responses = self.stored.responses_to([int(token) for token in prompt])
        if not responses:
            raise RequestError(f"data: no row of {self.path} has this prompt, and nothing else knows its response")
        return responses[0]

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        """Whether some row gives this response, its end included and nothing of it unknown, to the prompt."""
        return self.unknown not in answer and [int(token) for token in answer] in self.stored.responses_to(
            [int(token) for token in prompt]
        )

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the prompt's tokens."""
        tokens, lengths = batch.tokens.cpu().numpy(), batch.prompt_len.cpu().numpy()
        flat = tokens[numpy.arange(tokens.shape[1]) < lengths[:, None]]
        return fingerprint_ragged(self.coding.ids[flat], lengths)

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        """[B] bool: one prompt in eight, or those of the test file."""
        return self.stored.in_test(self.identity(batch))

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """A JSON object with the two fields; without the response where ``answer`` is empty."""
        texts = self.coding.decode(prompt, answer)
        record = dict(zip(self.fields, texts if len(answer) else texts[:1], strict=False))
        return json.dumps(record, ensure_ascii=False)

    def write_prompt(self, prompt: Sequence[int]) -> str:
        return self.coding.decode(prompt, ())[0]

    def write_answer(self, answer: Sequence[int]) -> str:
        return self.coding.decode((), answer)[1]

    def read_answer(self, text: str) -> list[int]:
        """Tokens of what ``write_answer`` wrote."""
        return self.coding.encode("", text)[1]

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        """Reads a JSON object with the two fields, or with the prompt's; any other line is a bare prompt, also JSON in
        which that field is not named."""
        prompt, response = self.fields[:2]
        record: Any = {prompt: line}
        if line.lstrip().startswith("{") and json.dumps(prompt, ensure_ascii=False) in line:
            try:
                record = read if prompt in (read := json.loads(line)) else record
            except (json.JSONDecodeError, RecursionError) as error:
                raise RequestError(f"not JSON, though it names the field {prompt!r}: {error}") from None
        for field in self.fields[:2]:
            if not isinstance(record.get(field, ""), str):
                raise RequestError(f"field {field!r} must hold text")
        tokens = self.coding.encode(record[prompt], record.get(response))
        if not tokens[0]:
            raise RequestError("the prompt holds nothing that the tokenizer keeps")
        return tokens
