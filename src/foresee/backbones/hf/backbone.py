"""Any causal language model of the transformers library, pretrained or from its architecture alone.

Of a checkpoint's embedding table and output head only the rows of the task's symbols are kept: the model is asked for,
and scored on, those alone, and neither memory nor the optimiser pays for the rest. Between them stands the library's
own model, fed with ``inputs_embeds``. That embedding, model and scores together still give the checkpoint's own logits
is checked on a few tokens before its tables are let go.

Weights are float32 by default: the master copy, of which the training loop's autocast makes bfloat16 copies on the fly.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import TableBackbone, backbones
from foresee.backbones.capabilities import Attend, Cap, measure_once
from foresee.backbones.hf import checks, loading
from foresee.backbones.hf.reading import REFUSALS, HuggingFaceLayer, Reader, undecayed_names
from foresee.backbones.hf.symbols import Symbols, exported_ids, put_back, rows_of, token_ids
from foresee.core.bounds import Bounds
from foresee.core.checkpoint_files import (
    checkpoint_digest,
    checkpoint_folder,
    gguf_file,
    has_tokenizer,
    load_tokenizer,
    refusing,
)
from foresee.core.errors import ForeseeError, RequestError
from foresee.core.seeds import torch_stream
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POSITION_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What configurations call the longest sequence that was trained on."""

PROBE_LENGTH, PROBE_SCALE = 6, 0.1
"""Of the inputs on which training mode and decoding are tried."""


@backbones.register("hf")
class HuggingFace(TableBackbone):
    """Options: ``path``, a folder as ``save_pretrained`` writes it or a hub id; ``dtype`` of the weights: float32 (the
    default, see above), or bfloat16, which halves them and loses updates below a 256th of a weight, so that it suits
    ``lora``, whose adapters and token rows stay float32; ``attention``, an implementation that the model supports
    (eager, sdpa, ...; none: its own default); ``random``, fresh weights in the checkpoint's architecture; ``symbols``,
    by the tokenizer, by the first rows of the table, or auto: the tokenizer where there is one; ``lora``, the rank of
    adapters on linear layers, with everything but them and the token rows frozen; ``lora_alpha``, 2 x rank unless
    given. Every dropout is set to 0."""

    summary = "any causal language model of transformers: a checkpoint folder or hub id, or its architecture"
    recordable = True

    def __init__(
        self,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        path: str,
        dtype: Literal["float32", "bfloat16"] = "float32",
        attention: str | None = None,
        random: bool = False,
        symbols: Symbols = "auto",
        lora: Annotated[int | None, Bounds(1, why="a rank, or none")] = None,
        lora_alpha: Annotated[int | None, Bounds(1, why="it scales what adapters add")] = None,
    ) -> None:
        super().__init__()
        if lora is None and lora_alpha is not None:
            raise RequestError(f"hf: lora_alpha={lora_alpha} scales adapters, of which there are none; give lora too")
        self.path, self.implementation, self.random, self.lora = path, attention, random, lora
        self.folder = checkpoint_folder(path)
        self.config = loading.read_config(self.folder, path)
        self.whose = f"{path} ({self.config.model_type})"
        model = self._model(loading.without_dropout(self.config), generator)
        table, head = self._table_and_head(model)
        self.vocab_size, self.width, self._rows = len(vocab), table.embedding_dim, len(table.weight)
        self.words = vocab.words if symbols != "first" and has_tokenizer(self.folder) else 0
        self.token_ids = token_ids(vocab, self.folder, path, symbols, self._rows) if vocab else ()
        self._take_rows(table, head, generator)
        self.body: Any = model.base_model
        self._reader = Reader(self.body, self.whose)
        with refusing(f"{self.whose} does not serve as a backbone", ForeseeError, *REFUSALS):
            expected = checks.own_logits(model, self.token_ids)
            model.set_input_embeddings(None)
            self._check(expected)
        if lora is not None:
            loading.add_adapters(self.body, lora, 2 * lora if lora_alpha is None else lora_alpha, generator)
        if dtype == "bfloat16":
            # Not ``body.to``: rotary frequencies are buffers, and useless in bfloat16.
            for name, parameter in self.body.named_parameters():
                if "lora_" not in name:
                    parameter.data = parameter.data.to(torch.bfloat16)
        self.undecayed = frozenset({"token_table", *(f"body.{name}" for name in undecayed_names(self.body))})
        self.train()

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        return checkpoint_digest(str(options["path"]))

    @staticmethod
    def remark(options: Mapping[str, Any]) -> str:
        if options["random"] or (file := gguf_file(str(options["path"]))) is None:
            return ""
        return f"The weights of {file.name} were quantised; they are read as float32, which does not undo the rounding."

    # Construction -----------------------------------------------------------------------------------------------------

    def _model(self, config: Any, generator: torch.Generator) -> Any:
        """The whole causal language model of ``config``: fresh, or with the checkpoint's weights."""
        if self.random:
            return loading.fresh_model(config, self.implementation, generator, self.path).eval()
        return loading.load_model(self.folder, config, self.implementation, self.path).eval()

    def _table_and_head(self, model: Any) -> tuple[nn.Embedding, nn.Linear]:
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
        if model.base_model is model or not isinstance(table, nn.Embedding) or not isinstance(head, nn.Linear):
            raise RequestError(f"hf: {self.whose} has no plain embedding table, model and linear head")
        if head.in_features != table.embedding_dim:
            raise RequestError(
                f"hf: {self.whose} has embeddings of width {table.embedding_dim} but final states of width "
                f"{head.in_features}; foresee needs one width"
            )
        if not {"inputs_embeds", "use_cache"} <= inspect.signature(model.base_model.forward).parameters.keys():
            raise RequestError(f"hf: {self.whose} cannot be given embeddings (inputs_embeds)")
        return table, head

    def _take_rows(self, table: nn.Embedding, head: nn.Linear, generator: torch.Generator) -> None:
        """Copies the task's rows of table and head; a tied head stays tied."""

        def rows(values: Tensor) -> nn.Parameter:
            return nn.Parameter(rows_of(values, self.token_ids, generator))

        some = bool(self.token_ids)
        self.embed_scale = checks.embedding_scale(table, self.whose) if some else 1.0
        self.logits_form = checks.LogitsForm()
        self.token_table = rows(table.weight) if some else None
        self.head = rows(head.weight) if some and head.weight is not table.weight else None
        self.head_bias = rows(head.bias) if some and head.bias is not None else None

    def _check(self, expected: Tensor) -> None:
        """Finds what the model can do, and refuses one that does not compute what the checkpoint's own does:
        ``expected`` [T, T'] are its logits on the first T known tokens, for all T' of them."""
        x = PROBE_SCALE * torch.randn(2, PROBE_LENGTH, self.width, generator=torch_stream("hf", "probe"))
        checks.refuse_randomness(self.body, lambda: self._reader(x), self.whose)
        self.has = frozenset(Cap)  # so that measuring may try
        kind = (checkpoint_digest(self.path), self.implementation, self.random)
        self.has = measure_once(kind, self, self.width, self.longest)
        if expected.numel():
            known = torch.tensor([index for index, token in enumerate(self.token_ids) if token is not None])
            with torch.no_grad():
                raw = self.logits(self(self.embed(known[None, : len(expected)])))[0][:, known]
            self.logits_form = checks.fit_logits(raw, expected, self.config, self.whose)
        self._decoder = checks.choose_decoder(self.body, self._reader, x)

    # Reading and decoding ---------------------------------------------------------------------------------------------

    @property
    def longest(self) -> int | None:
        limits = [getattr(self.config, name, None) for name in POSITION_LIMITS]
        return next((limit for limit in limits if isinstance(limit, int)), None)

    @property
    def widest_mask(self) -> int | None:
        return self._reader.window

    def embed(self, tokens: Tensor) -> Tensor:
        embedded = super().embed(tokens)
        return embedded if self.embed_scale == 1.0 else embedded * self.embed_scale

    def logits(self, hidden: Tensor) -> Tensor:
        return self.logits_form(functional.linear(hidden, self.head_rows(), self.head_bias))

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        if positions is None:  # given ones may repeat, as where several rows are read as one
            self._refuse_length(x.shape[1])
        self._reader.recompute(self.recompute and self.training and torch.is_grad_enabled())
        if isinstance(attend, str) and attend == "causal" and positions is None:
            hidden = self._reader(x)
        else:
            hidden = self._reader.read_masked(x, attend, positions, self.has)
        return hidden if keep is None else hidden[:, keep]

    def layer_list(self) -> list[nn.Module]:
        return list(self._reader.layers())

    def _refuse_length(self, length: int) -> None:
        if self.longest is not None and length > self.longest:
            raise RequestError(f"hf: {self.whose} has {self.longest} positions, too few for a sequence of {length}")

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, checks.DecodingState]:
        self._refuse_length(x.shape[1])
        self._reader.recompute(False)
        hidden, state = self._decoder.start(x.to(self._reader.dtype))
        return hidden.to(x.dtype), state

    def step(self, x: Tensor, state: checks.DecodingState) -> tuple[Tensor, checks.DecodingState]:
        self._refuse_length(state.length + 1)
        self._reader.recompute(False)
        hidden, state = self._decoder.step(x.to(self._reader.dtype), state)
        return hidden.to(x.dtype), state

    # Shape and export -------------------------------------------------------------------------------------------------

    def twin(self, generator: torch.Generator) -> HuggingFace:
        return HuggingFace(Vocabulary(()), generator, path=self.path, attention=self.implementation, random=True)

    def last_layer(self, generator: torch.Generator) -> HuggingFaceLayer:
        return HuggingFaceLayer(self.config, self.implementation, generator, self.path, self.whose)

    def shards(self) -> list[nn.Module]:
        return [*self._reader.layers(), self.body]

    def flops_per_token(self) -> int:
        return self.vocab_size * self.width + checks.matrix_parameters(self.body)

    def counterpart(self) -> PreTrainedModel:
        """The checkpoint's whole causal language model, dropouts as in its configuration, with the trained weights put
        back and adapters merged. Symbol i is its token ``counterpart_ids()[i]``."""
        if self.token_table is None:
            raise RequestError(f"hf: a twin of {self.whose} has no counterpart: it has no tokens")
        model: PreTrainedModel = self._model(self.config, torch_stream("hf", "rows of no symbol", self.path))
        state = self.body.state_dict() if self.lora is None else loading.merged_state(self.body)
        put_back(model, state, self.token_ids, {"table": self.token_table, "head": self.head, "bias": self.head_bias})
        return model

    def counterpart_ids(self) -> tuple[int, ...]:
        """``token_ids``, and for symbols without one of their own, new rows at the end of the table."""
        return exported_ids(self.token_ids, self._rows)

    def label_words(self) -> tuple[str, ...]:
        tokenizer = load_tokenizer(self.folder, self.path) if self.words else None
        return tuple(tokenizer.decode([token]) for token in self.token_ids[: self.words]) if tokenizer else ()
