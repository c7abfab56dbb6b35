"""The self-contained scripts under examples/objectives: each is its objective, to five places, and runs."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from objective_support import rng
from support import scramble
from torch import Tensor

from foresee.backbones import backbones
from foresee.core.batch import Batch
from foresee.core.spec import resolve
from foresee.objectives import objectives
from foresee.tasks import tasks
from generate.objectives_page import own_names

SCRIPTS = Path(__file__).resolve().parent.parent / "examples" / "objectives"
NAMES = own_names(objectives)
SIZE = {"WIDTH": 32, "LAYERS": 2, "CROSS": 1}
"""What scripts are made smaller to here."""

LAYER = {"self_attn.in_proj_": "attention_in.", "self_attn.out_proj": "attention_out", "norm1": "attention_norm",
         "norm2": "mlp_norm", "linear1": "mlp_in", "linear2": "mlp_out"}  # fmt: skip
"""Names of a layer's parameters in PyTorch's Transformer and in ours."""
OWN = {
    "multi-token": {
        r"^trunk\.layers\.": "blocks.", r"^heads\.0\.layers\.0\.": "blocks.1.", r"^heads\.0\.norm": "final_norm",
        r"^heads\.1": "further_heads.0", r"^heads\.2": "further_heads.1", r"^heads\.3": "further_heads.2",
        r"(further_heads\.\d\.)layers\.0": r"\1block",
    },
    "multi-token-sequential": {
        r"^(state_norm|token_norm|projection|module)": r"chain.0.\1", r"module\.layers\.0": "layer.block",
        r"module\.norm": "layer.norm",
    },
    "joint-multi-token": {
        r"fetch_norm": "final_norm", r"^(state_weight|combine_norm|final_norm|attention|bias_table)": r"fetch.\1",
    },
    "next-latent": {r"cs\.0": "cs.norm", r"cs\.1": "cs.first", r"cs\.3": "cs.second", r"cs\.5": "cs.third"},
    "belief-state": {
        r"^(inward|outward|norm)\.": r"text_head.\1.", r"^(back\w+)\.layers": r"\1.blocks",
        r"^(back\w+)\.norm": r"\1.final_norm",
    },
    "plan-tokens": {
        r"^(decoder|query_|attention|code_|to_code|from_code)": r"autoencoder.\1",
        r"(backbone|decoder)\.layers": r"\1.blocks", r"(backbone|decoder)\.norm": r"\1.final_norm",
    },
}  # fmt: skip
"""Names of parameters in scripts, and in our objectives where they differ by more than a layer's."""
STACKED = {
    "fetch.attention.in_proj_weight": ("fetch.queries_keys", "fetch.values"),
    "fetch.attention.out_proj.weight": ("fetch.out",),
    "autoencoder.attention.in_proj_weight": ("autoencoder.queries_in", "autoencoder.keys_values_in"),
    "autoencoder.attention.in_proj_bias": ("autoencoder.queries_in_bias", "autoencoder.keys_values_in_bias"),
    "autoencoder.attention.out_proj.weight": ("autoencoder.attention_out",),
    "autoencoder.attention.out_proj.bias": ("autoencoder.attention_out_bias",),
    "autoencoder.from_code.bias": ("autoencoder.from_code_bias",),
}  # fmt: skip
"""Parameters of ours that a script holds as one, one above the other."""


def load(name: str) -> Any:
    """A script as a module, with a smaller network."""
    spec = importlib.util.spec_from_file_location(f"script_{name.replace('-', '_')}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(SIZE)
    return module


def find_ours(name: str, parameter: str, ours: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of our parameters that a script's parameter stands for."""
    for pattern, replacement in OWN.get(name, {}).items():
        parameter = re.sub(pattern, replacement, parameter)
    parameter = parameter.replace("layers.layers.", "blocks.").replace("layers.norm", "final_norm")
    for theirs, our in LAYER.items():
        parameter = parameter.replace(theirs, our) if "blocks." in parameter or ".block." in parameter else parameter
    if parameter in STACKED:
        return STACKED[parameter]
    short = parameter.removesuffix(".weight")
    return (next(each for each in (parameter, short, f"backbone.{parameter}", f"backbone.{short}") if each in ours),)


def build(name: str, script: Any) -> tuple[Any, Any, dict[str, tuple[str, ...]]]:
    """Our objective and the script's model with the same weights, and which parameters correspond."""
    task = resolve(tasks, f"path-star:degree={script.DEGREE},length={script.LENGTH},nodes={script.NODES}").build()
    chosen = resolve(objectives, name)
    vocab = task.vocab.extended(chosen.cls.symbols)
    positions = "learned" if "position_table" in (SCRIPTS / f"{name}.py").read_text(encoding="utf-8") else "rotary"
    shape = f"layers={script.LAYERS},width={script.WIDTH},heads={script.HEADS},context=64,positions={positions}"
    made = chosen.build(resolve(backbones, f"transformer:{shape}").build(vocab, rng()), vocab, rng())
    scramble(made, 0.2)
    ours = dict(made.named_parameters())
    with torch.random.fork_rng():
        model = script.Model()
    pairs = {each: find_ours(name, each, ours) for each, _ in model.named_parameters()}
    assert sorted(our for names in pairs.values() for our in names) == sorted(ours)
    with torch.no_grad():
        for each, parameter in model.named_parameters():
            parameter.copy_(torch.cat([ours[our] for our in pairs[each]]))
    return made, model, pairs


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_loss_gradients_and_answers_are_those_of_our_class(name: str, short: bool) -> None:
    """Also on answers of two tokens, which is less than heads, horizons and spans reach, where rows share prompts."""
    script = load(name)
    if short:
        script.LENGTH = 2
    made, model, pairs = build(name, script)
    prompt, answer = script.path_star(4, rng("graphs"))
    draws = (rng(),) if script.loss.__code__.co_argcount == 4 else ()
    found = script.loss(model, prompt, answer, *draws)
    batch = Batch.of(torch.cat((prompt, answer), 1), prompt.shape[1], script.LENGTH)
    if short and "future-insertion" not in name:  # which draws for a group of rows together
        batch = batch.sharing(script.DEGREE, prompt.shape[1] - 2)
    expected = made.loss(batch, rng()).total
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.autograd.backward([found, expected])
    for each, parameter in model.named_parameters():
        gradient = torch.cat([made.get_parameter(our).grad for our in pairs[each]])
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(script.generate(model, prompt), made.generate(prompt, script.LENGTH))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_draws_our_task_and_trains(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load(name)
    task = resolve(tasks, f"path-star:degree={script.DEGREE},length={script.LENGTH},nodes={script.NODES}").build()
    prompts, answers = script.path_star(8, rng())
    assert prompts.shape[0] == 8 * script.DEGREE
    assert [task.solve(prompt) for prompt in prompts.tolist()] == answers.tolist()
    monkeypatch.setattr(script, "path_star", lambda graphs, rng: (prompts, answers))
    with torch.random.fork_rng():
        script.main(3)
    assert re.fullmatch(
        r"step=3, total=\d+\.\d{3}, answers right \d\.\d\d, n2 right \d\.\d\d\n", capsys.readouterr().out
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_one_short_page_that_needs_torch_alone(name: str) -> None:
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    block = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", text)
    assert block is not None
    metadata = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    assert metadata == {"requires-python": ">=3.11", "dependencies": ["torch", "numpy"]}
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    assert {str(module).partition(".")[0] for module in imported} - set(sys.stdlib_module_names) == {"torch"}
    assert {path.stem for path in SCRIPTS.iterdir() if path.suffix == ".py"} == set(NAMES)


@pytest.mark.slow
def test_the_control_learns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the layers and of the rows: from 0 right at step 200 to all at 300, in 51 s of one core."""
    script = load("reversed")
    vars(script).update(WIDTH=128, LAYERS=3, HEADS=4, RATE=1e-3)
    draw = script.path_star
    monkeypatch.setattr(script, "path_star", lambda graphs, rng: draw(graphs // 2, rng))
    with torch.random.fork_rng():
        script.main(400)
    shares = [float(share) for share in re.findall(r"answers right (\d\.\d\d)", capsys.readouterr().out)]
    assert shares[0] < 0.1
    assert shares[-1] > 0.9
