"""What ``benchmarks/gpu.sh`` does on a GPU, part by part; each part writes into ``--out`` as it goes.

environment   the card, versions, code
checks        every objective on CUDA beside the CPU: three updates in float32 and in bfloat16, decoding, scoring, and a
              whole small run with its final measurement
bench         training rates beside the transformers library's GPT-2 of the same size, and the matrix-product rate
runs          runs of paper size, several at once, until the time is up
one           one of them, as ``foresee train`` runs it

``--device cpu --quick`` does the same with tiny sizes, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from foresee.core.batch import Batch
from foresee.core.isolation import keep_large_blocks
from foresee.core.seeds import torch_stream
from foresee.experiments.bench import TrainingStep, matrix_products, seconds_of
from foresee.metrics.measure import measure_quickly
from foresee.objectives.base import objectives
from foresee.training.batched import Stack
from foresee.training.data import FixedData, draw
from foresee.training.examples import batch_of
from foresee.training.loop import InterruptedTrainingError
from foresee.training.loop import train as train_run
from foresee.training.optimizer import autocast
from foresee.training.process import environment
from foresee.training.settings import Settings

G25 = "path-star:degree=2,length=5,nodes=50,goals=all"
G55, G55_ONE = (f"path-star:degree=5,length=5,nodes=50,goals={goals}" for goals in ("all", "one"))
TINY = "transformer:layers=2,width=32,heads=2,positions=rotary"
PAPER = "transformer:layers=12,width=384,heads=6,positions=rotary"


@dataclass(frozen=True)
class Wanted:
    """One run of paper size."""

    objective: str
    lr: float = 5e-4
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.objective.replace(':', '.').replace('=', '').replace(',', '.')}-seed{self.seed}"


RUNS = (
    Wanted("next-token"),
    Wanted("reversed"),
    Wanted("belief-state"),
    Wanted("next-latent:horizon=3"),
    Wanted("token-order"),
    Wanted("multi-token:heads=5,weight=0.25"),
    # Where one of these has solved, the next takes its place.
    Wanted("joint-multi-token:horizon=3"),
    Wanted("belief-state", seed=1),
    Wanted("next-latent:horizon=3", seed=1),
    Wanted("token-order", seed=1),
    Wanted("joint-multi-token:horizon=3", seed=1),
)
"""In order of worth. Multi-token's weight is 1 / (heads - 1), the largest that NextLat's authors tried."""

AT_ONCE = 6


def write_json(path: Path, value: Any) -> None:
    """Replaces a file, never leaving a part of one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def synchronize(device: str) -> None:
    """Waits for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


# Environment ----------------------------------------------------------------------------------------------------------


def show_environment(options: argparse.Namespace) -> None:
    """Writes ``environment.json``."""
    found = environment()
    if options.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "cuda": torch.version.cuda,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
        }
    write_json(options.out / "environment.json", found)
    print(json.dumps(found))


# Checks ---------------------------------------------------------------------------------------------------------------

TOLERANCE = 2e-3
"""Of a float32 loss on the two devices, relative; both add in another order, and three updates lie between."""


def update(training: TrainingStep, batch: Batch) -> torch.Tensor:
    """One update on a given batch, which a graph can record: that of ``train_steps`` on one process and in one part."""
    spec = training.spec
    stream = torch_stream("objective", spec.objective, spec.seed, training.training.position.step)
    training.training.optimizer.zero_grad()
    with autocast(spec):
        out = training.objective.loss(batch, stream)
    out.total.backward()  # type: ignore[no-untyped-call]  # torch leaves backward without types
    training.training.update()
    return out.total.detach()


def losses_of(objective: str, device: str, precision: str, options: argparse.Namespace) -> tuple[list[float], bool]:
    """Losses of three updates, and whether decoding gives whole answers of known tokens and scores are finite."""
    backbone = TINY if options.quick else "gpt-nano"
    spec = Settings.of(
        G25, objective, backbone, batch=64, data="fixed:640", device=device, precision=precision, warmup=0
    )
    training = TrainingStep(spec)
    training.objective.train()
    losses = []
    for step in range(3):
        batch = batch_of(training.data, training.task, spec, step).to(spec.device)
        losses.append(float(update(training, batch)))
    test = draw(training.task, spec.task, "test", 64, 0).to(device)
    with autocast(spec):
        seen = measure_quickly(training.task, training.objective, test)
        with torch.inference_mode():
            written = training.objective.generate(test.prompts, test.layout.width)
    known = (written >= 0) & (written < len(training.objective.vocab))
    whole = written.shape == test.answers.shape and bool(known.all())
    return losses, whole and all(math.isfinite(value) for value in seen["free"]) and seen["n"] == len(test)


def recorded_apart(objective: str) -> float | None:
    """How far a mean of twelve losses is from that of ordinary steps, relative, where steps are recorded; None where
    they are not to be. Raises ``AssertionError`` where they were to be and were not."""
    means = []
    for ordinary in (False, True):
        training = TrainingStep(Settings.of(G25, objective, "gpt-nano", batch=128, device="cuda"))
        recorded = training.training.recorded
        if recorded is None:
            return None
        if ordinary:
            recorded.ordinary = sys.maxsize
        for _ in range(12):
            training()
        assert recorded.recorded is not ordinary
        means.append(training.training.losses.means(12)["loss"])
    return abs(means[0] / means[1] - 1)


def check(objective: str, options: argparse.Namespace) -> dict[str, Any]:
    """What came of one objective; ``problems`` is empty where all is well."""
    device, problems = options.device, []
    row: dict[str, Any] = {"objective": objective}
    expected, _ = losses_of(objective, "cpu", "float32", options)
    for precision in ("float32", "bf16"):
        try:
            losses, answers = losses_of(objective, device, precision, options)
        except Exception:  # noqa: BLE001  # whatever it is, it is the finding
            problems.append(f"{precision}: {traceback.format_exc(limit=-3)}")
            continue
        apart = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
        row[precision] = {"losses": losses, "apart": apart}
        if not all(map(math.isfinite, losses)):
            problems.append(f"{precision}: a loss is not finite")
        elif apart > (TOLERANCE if precision == "float32" else 0.05):
            problems.append(f"{precision}: losses are {apart:.2g} from the CPU's in float32")
        if not answers:
            problems.append(f"{precision}: decoding or scoring gave what is no answer")
    row["cpu"] = expected
    try:
        with tempfile.TemporaryDirectory() as root:
            spec = Settings.of(
                G25, objective, TINY if options.quick else "gpt-nano", steps=4, eval_every=2, batch=64,
                data="fixed:640", test=64, device=device,
            )  # fmt: skip
            row["exact"] = train_run(spec, root).rows["exact"]["value"]
        row["recorded_apart"] = recorded_apart(objective) if device == "cuda" else None
        if (row["recorded_apart"] or 0.0) > TOLERANCE:
            problems.append(f"the losses of recorded steps are {row['recorded_apart']:.2g} from those of ordinary ones")
    except Exception:  # noqa: BLE001  # as above
        problems.append(f"a whole run: {traceback.format_exc(limit=-4)}")
    return row | {"problems": problems}


def checks(options: argparse.Namespace) -> None:
    """Writes a line of ``checks.jsonl`` an objective: every third one, from ``--part``'s first number on."""
    torch.set_num_threads(1)
    part, parts = map(int, options.part.split("/"))
    first = list(dict.fromkeys(wanted.objective.partition(":")[0] for wanted in RUNS))
    names = first + [name for name in objectives.names() if name not in first]
    if options.quick:
        names = names[:3]
    for name in names[part::parts]:
        began = time.perf_counter()
        try:
            row = check(name, options)
        except Exception:  # noqa: BLE001  # as above
            row = {"objective": name, "problems": [traceback.format_exc(limit=-3)]}
        row["seconds"] = round(time.perf_counter() - began, 1)
        with (options.out / "checks.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")


def fit(options: argparse.Namespace) -> bool:
    """Whether at most one of the runs' first objectives failed its check."""
    failed = {row["objective"] for row in lines_of(options.out / "checks.jsonl") if row["problems"]}
    wanted = {each.objective.partition(":")[0] for each in RUNS[:AT_ONCE]}
    return len(failed & wanted) <= 1


# Rates ----------------------------------------------------------------------------------------------------------------

OURS, OURS_ALL, LIBRARY, MATRIX = "foresee", "foresee, goals=all", "transformers, tuned", "matrix product"
ORDINARY, COMPILED, REDUCED = ", not recorded", " + compiled", " + reduce-overhead"
TOGETHER, SEEDS = " + 8 seeds as one program", 8
WAYS = (
    OURS, OURS + ORDINARY, OURS + COMPILED, OURS_ALL, OURS_ALL + ORDINARY, OURS_ALL + TOGETHER,
    LIBRARY, LIBRARY + COMPILED, LIBRARY + REDUCED,
)  # fmt: skip
SIZES = ("gpt-nano", "gpt-mini")


def bench_spec(size: str, way: str, options: argparse.Namespace) -> Settings:
    """Of one contender. 512 is no multiple of the five goals of a graph, so ``goals=all`` has 510 rows."""
    shared = way.startswith(OURS_ALL)
    batch = (10 if shared else 8) if options.quick else (510 if shared else 512)
    return Settings.of(
        G55 if shared else G55_ONE, "next-token", TINY if options.quick else size, batch=batch,
        data="fixed:100" if options.quick else "fixed:20000", device=options.device, precision="bf16",
    )  # fmt: skip


def on_device(training: TrainingStep) -> None:
    """Puts all training examples on the device once."""
    data, spec = training.data, training.spec
    assert isinstance(data, FixedData)
    resident = FixedData(data.batch.to(spec.device), spec.task, spec.seed, training.task.group)
    training.data = training.training.data = resident


def our_step(size: str, way: str, options: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """One training step a call, and its model operations."""
    if TOGETHER in way:
        return seeds_step(size, way, options)
    training = TrainingStep(bench_spec(size, way, options))
    if way.endswith(ORDINARY):
        training.training.recorded = None
    if way.endswith(COMPILED):
        backbone: Any = training.objective.backbone
        backbone.forward = torch.compile(backbone.forward)
    return training, training.flops()


def seeds_step(size: str, way: str, options: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """One training step of each of several seeds a call, as ``--engine batched`` trains them."""
    each = [TrainingStep(bench_spec(size, way, options).replace(seed=seed)) for seed in range(SEEDS)]
    for training in each:
        on_device(training)
    stack = Stack([training.training for training in each])

    return stack.take_step, SEEDS * each[0].flops()


def library_step(size: str, way: str, options: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """One training step of the library's model a call: bfloat16 autocast, fused attention, exact GELU, no cache, logits
    at the answer alone, fused AdamW, data on the device."""
    from transformers import AutoModelForCausalLM, GPT2Config

    spec = bench_spec(size, way, options)
    training = TrainingStep(spec)
    shape = training.objective.backbone.options
    on_device(training)
    layout = training.batch().layout
    config = GPT2Config(
        vocab_size=len(training.task.vocab),
        n_positions=256,
        n_embd=shape["width"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(spec.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)
    model.train()

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        with autocast(spec):
            out = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=layout.width)
        return functional.cross_entropy(out.logits.flatten(0, 1).float(), tokens[:, layout.first :].flatten())

    if way.endswith(COMPILED):
        loss = torch.compile(loss)
    elif way.endswith(REDUCED):
        loss = torch.compile(loss, mode="reduce-overhead")

    def step() -> None:
        tokens = training.batch().tokens
        training.training.position.step += 1
        if way.endswith(REDUCED):
            torch.compiler.cudagraph_mark_step_begin()
        optimiser.zero_grad()
        loss(tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip, foreach=True)
        optimiser.step()

    return step, training.flops()


def contend(options: argparse.Namespace) -> None:
    """Says that it is ready, then answers each line on standard input, the seconds of a burst, with what it took."""
    keep_large_blocks()
    torch.set_num_threads(2)
    size, way = options.contender.split("/")
    try:
        if way == MATRIX:
            products = matrix_products(bench_spec(size, OURS, options), 512, 64)
            step, flops = next(iter(products.values()))
        else:
            make = library_step if way.startswith(LIBRARY) else our_step
            step, flops = make(size, way, options)
        for _ in range(4):
            step()
        synchronize(options.device)
        print(json.dumps({"ready": True, "flops": flops}), flush=True)
        for line in sys.stdin:
            # The first calls after others had their turn are not counted.
            seconds_of(step, options.device, 2)
            calls = max(1, math.ceil(float(line) / seconds_of(step, options.device, 2) * 2))
            answer: dict[str, Any] = {"seconds": seconds_of(step, options.device, calls) / calls, "calls": calls}
            if options.device == "cuda":
                answer["gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
                torch.cuda.empty_cache()
            print(json.dumps(answer), flush=True)
    except Exception:  # noqa: BLE001  # whatever it is, it is the finding
        print(json.dumps({"error": traceback.format_exc(limit=-4)}), flush=True)


class Contender:
    """A process that trains when told to."""

    def __init__(self, size: str, way: str, options: argparse.Namespace) -> None:
        self.size, self.way = size, way
        command = [
            sys.executable, __file__, "contend", "--contender", f"{size}/{way}", "--out", str(options.out),
            "--device", options.device, *(["--quick"] if options.quick else []),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.flops, self.error, self.ready = 0, "", False
        self.bursts: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.answers.put(json.loads(line))
        self.answers.put({"error": "it ended"})

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next one, or None where there is none in time."""
        try:
            found = self.answers.get(timeout=max(0.01, seconds))
        except queue.Empty:
            return None
        self.error = self.error or found.get("error", "")
        return found

    def burst(self, seconds: float) -> None:
        """Trains for about so many seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        found = self.answer(20 * seconds + 10)
        if found is None:
            self.error = "a burst did not end"
        elif "seconds" in found:
            self.bursts.append(found)

    def row(self, batch: int) -> dict[str, Any]:
        """What was measured."""
        row: dict[str, Any] = {"size": self.size, "way": self.way}
        if self.error:
            row["error"] = self.error
        if self.bursts:
            each = [found["seconds"] for found in self.bursts]
            seconds = statistics.median(each)
            row |= {
                "milliseconds": 1000 * seconds, "quickest": 1000 * min(each), "slowest": 1000 * max(each),
                "flop_rate": self.flops / seconds, "gib": self.bursts[-1].get("gib"),
            }  # fmt: skip
            if self.way != MATRIX:
                row |= {"steps_per_second": 1 / seconds, "examples_per_second": batch / seconds}
        return row


def bench(options: argparse.Namespace) -> None:
    """Writes ``bench.json`` anew after every round."""
    end = time.monotonic() + options.limit
    sizes = SIZES[:1] if options.quick else SIZES
    ways = [(size, way) for size in sizes for way in WAYS]
    if options.device == "cpu":
        ways = [(size, way) for size, way in ways if not way.endswith((ORDINARY, REDUCED, COMPILED))]
    contenders = [Contender(size, way, options) for size, way in [*ways, (sizes[0], MATRIX)]]
    ready_by = end - 2.2 * len(contenders)
    try:
        while time.monotonic() < ready_by and not all(each.ready or each.error for each in contenders):
            for each in contenders:
                if not (each.ready or each.error) and (found := each.answer(0.02)) and found.get("ready"):
                    each.ready, each.flops = True, found["flops"]
                    print(f"{each.size} {each.way}: ready, {end - time.monotonic():.0f} s left", flush=True)
        for each in contenders:
            if not each.ready:
                each.error = each.error or "not ready in time"
                each.process.kill()
        while options.after and not options.after.exists() and time.monotonic() < ready_by + 10:
            time.sleep(0.2)
        # Three rounds, each of about what is left over the contenders.
        able = [each for each in contenders if each.ready]
        burst = 0.05 if options.quick else max(0.2, min(0.6, (end - time.monotonic()) / 3 / (len(able) + 1) - 0.4))
        for _ in range(3):
            for each in able:
                if not each.error and time.monotonic() < end - 2:
                    each.burst(burst)
            save_bench(contenders, options)
    finally:
        for each in contenders:
            each.process.kill()


def save_bench(contenders: list[Contender], options: argparse.Namespace) -> None:
    """Rows, and each one's share of the matrix-product rate and speed beside the library's."""
    rows = [
        each.row(bench_spec(each.size, each.way, options).batch * (SEEDS if TOGETHER in each.way else 1))
        for each in contenders
    ]
    matrix = next((row["flop_rate"] for row in rows if row["way"] == MATRIX and "flop_rate" in row), None)
    for row in rows:
        if "flop_rate" not in row or row["way"] == MATRIX:
            continue
        row["share_of_matrix_rate"] = row["flop_rate"] / matrix if matrix else None
        for other in rows:
            if other["size"] == row["size"] and other["way"].startswith(LIBRARY) and "examples_per_second" in other:
                ratio = row["examples_per_second"] / other["examples_per_second"]
                row.setdefault("times", {})[other["way"]] = ratio
    write_json(options.out / "bench.json", {"task": G55, "precision": "bf16", "rows": rows})
    for row in rows:
        rate = row.get("examples_per_second")
        print(
            f"{row['size']:10}{row['way']:48}"
            + (f"{row['milliseconds']:9.2f} ms {row['flop_rate'] / 1e12:8.1f} TFLOP/s" if "milliseconds" in row else "")
            + (f" {rate:12,.0f} examples/s" if rate else "")
            + (f"  {row['error'].strip().splitlines()[-1][:200]}" if "error" in row else "")
        )


# Runs -----------------------------------------------------------------------------------------------------------------


def paper_spec(wanted: Wanted, options: argparse.Namespace) -> Settings:
    """Of one run: G(5,5), 50 labels, all five goals of 102 fresh graphs a step."""
    return Settings.of(
        G25 if options.quick else G55, wanted.objective, TINY if options.quick else PAPER, steps=100_000,
        batch=20 if options.quick else 510, lr=wanted.lr, seed=wanted.seed, data="fresh",
        test=100 if options.quick else 4000, eval_every=10 if options.quick else 100,
        warmup=10 if options.quick else 100, device=options.device, until_solved=True,
    )  # fmt: skip


def one(options: argparse.Namespace) -> None:
    """Trains the run whose number ``--run`` gives until it is solved or told to stop."""
    torch.set_num_threads(1)
    spec = paper_spec(RUNS[options.run], options)
    print(f"run {options.run}: {spec.objective}, seed {spec.seed}, {spec.digest}", flush=True)
    try:
        run = train_run(spec, options.root)
    except InterruptedTrainingError as stopped:
        print(stopped)
        return
    print(json.dumps(run.json()))


@dataclass
class Started:
    """A run's process."""

    number: int
    wanted: Wanted
    spec: Settings
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)


def runs(options: argparse.Namespace) -> None:
    """Keeps ``AT_ONCE`` runs going until the time is up, and packs what there is every ten seconds."""
    end = time.monotonic() + options.limit
    if not fit(options):
        sys.exit("too few objectives train on this device: no runs")
    root = options.root or Path(tempfile.mkdtemp(prefix="foresee-gpu-"))
    root.mkdir(parents=True, exist_ok=True)
    waiting, going, all_started = list(enumerate(RUNS)), [], []
    last = time.monotonic()
    stop_at = end - 10
    while time.monotonic() < stop_at:
        going = [each for each in going if each.process.poll() is None]
        while waiting and len(going) < (2 if options.quick else AT_ONCE):
            number, wanted = waiting.pop(0)
            command = [
                sys.executable, __file__, "one", "--run", str(number), "--root", str(root / "runs"),
                "--out", str(options.out), "--device", options.device, *(["--quick"] if options.quick else []),
            ]  # fmt: skip
            with (root / f"{wanted.name}.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            started = Started(number, wanted, paper_spec(wanted, options), process)
            going.append(started)
            all_started.append(started)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            pack(root, all_started, options)
        time.sleep(0.5)
    for each in going:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGTERM)
    pack(root, all_started, options)
    for each in going:
        try:
            each.process.wait(max(0.1, end - 1 - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.process.kill()
    pack(root, all_started, options, show=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file that may still be written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")]


def pack(root: Path, started: list[Started], options: argparse.Namespace, show: bool = False) -> None:
    """Writes ``curves.json`` and ``runs.tar.gz`` anew."""
    curves = []
    for each in started:
        folder = root / "runs" / each.spec.digest
        metrics, timing = lines_of(folder / "metrics.jsonl"), lines_of(folder / "timing.jsonl")
        seconds = {line["step"]: line["seconds"] for line in timing}
        log = (root / f"{each.wanted.name}.log").read_text(encoding="utf-8", errors="replace")
        curve = [
            {
                "step": line["step"], "seconds": seconds.get(line["step"]), "loss": line["loss"],
                **{name: line["eval"].get(name) for name in ("exact", "branch", "child", "forced_loss")},
            }
            for line in metrics
        ]  # fmt: skip
        curves.append(
            {
                "run": each.spec.digest, "objective": each.spec.objective, "seed": each.spec.seed, "lr": each.spec.lr,
                "finished": (folder / "rows.jsonl").exists(), "status": each.process.poll(),
                "log": log[-1500:], "curve": curve,
            }
        )  # fmt: skip
        if show and curve:
            at = curve[-1]
            print(f"{each.wanted.name:44} {at}", flush=True)
        elif show:
            print(f"{each.wanted.name:44} nothing: {log[-600:]}", flush=True)
    write_json(options.out / "curves.json", {"runs": curves})
    part = options.out / "runs.part"
    with tarfile.open(part, "w:gz") as archive:
        kept = (path for path in sorted(root.rglob("*")) if path.suffix in (".json", ".jsonl", ".log"))
        for path in kept:
            archive.add(path, path.relative_to(root))
    os.replace(part, options.out / "runs.tar.gz")  # noqa: PTH105  # the same thing


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "environment": show_environment, "checks": checks, "bench": bench, "contend": contend, "runs": runs, "one": one,

}  # fmt: skip


def main() -> None:
    """Does one part."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part_name", choices=PARTS, metavar="PART")
    options.add_argument("--out", type=Path, required=True, help="the folder that results go into")
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works")
    options.add_argument("--limit", type=float, default=100.0, help="seconds, of bench and of runs")
    options.add_argument("--after", type=Path, help="bench begins its rounds once this file is there")
    options.add_argument("--part", default="0/1", help="which of how many parts of the checks")
    options.add_argument("--contender", help="used by the script itself")
    options.add_argument("--run", type=int, help="used by the script itself")
    options.add_argument("--root", type=Path, help="the folder of the runs; those that it holds are continued")
    arguments = options.parse_args()
    PARTS[arguments.part_name](arguments)


if __name__ == "__main__":
    main()
