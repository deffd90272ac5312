"""Check and measure training on a GPU: one table, one JSON file, one profile.

    bash benchmarks/gpu_check.sh OUTPUT                  # on a GPU, at most eight minutes on an H200
    bash benchmarks/gpu_check.sh OUTPUT --device cpu     # tries the script itself, at tiny sizes

Each part runs in a process of its own, with a time limit, and the others go on where one fails; the exit
status is 1 then. The parts:

correct    losses, gradients and embeddings against the CPU: f32, and as trained (bf16)
speed      benchmarks/train_step.py: padded f32 procedure, ours, stock SSL; captions/s, share of peak, memory
compiled   the same for ours with model.compile=layers and task.length_buckets=6
scenarios  ten updates of each of the nine scenarios, loss and gradients finite
profile    where an update spends its time: profile.txt and a trace for Perfetto, profile.json.gz
command    fairseq-hydra-train itself, ten updates, its checkpoint
evaluate   extraction and ABX of that checkpoint on the device, beside the CPU's numbers
nccl       torch.distributed with one rank (gloo on a CPU): gather, all-reduce, DistributedDataParallel
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
EXAMPLES = CHECKOUT / "examples" / "vgs"
EMBEDDED = CHECKOUT / "manifests" / "embedded"
N_UPDATES = 10
LIMITS = {
    "correct": 45,
    "speed": 120,
    "compiled": 70,
    "scenarios": 100,
    "profile": 40,
    "command": 40,
    "evaluate": 45,
    "nccl": 20,
}
"""Seconds per part on a GPU; four times as much on a CPU, which may have other work."""
TOLERANCES = {"f32": 0.01, "as trained": 0.3}
"""Largest difference of losses, gradients and embeddings, relative to their norms: a code that a rounding
changes has a share of the SSL loss's gradient."""
MOST_POINTS = 0.2
"""Largest difference of ABX errors, in points."""
Part = Callable[[argparse.Namespace], dict[str, Any]]


def model_name(device: str) -> str:
    """Return the size to check: the paper's on a GPU."""
    return "tiny" if device == "cpu" else "paper"


def settings(scenario: str, device: str, *overrides: str) -> Any:
    """Compose a scenario's configuration at the size of the check, on the embedded data."""
    from fairseq.dataclass.initialize import add_defaults, hydra_init
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    recipe = [f"model={model_name(device)}", f"run_config={'cpu' if device == 'cpu' else 'gpu_1'}"]
    common = ["task.history_file=null", "dataset.num_workers=2", "lr_scheduler.warmup_updates=2"]
    sizes = [f"optimization.max_update={N_UPDATES}", f"dataset.batch_size={16 if device == 'cpu' else 32}"]
    hydra_init(scenario)
    with initialize_config_dir(config_dir=str(EXAMPLES), version_base="1.1"):
        cfg = compose(config_name=scenario, overrides=[*recipe, *common, *sizes, *overrides])
    add_defaults(cfg)
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def training(cfg: Any) -> tuple[Any, Any]:
    """Build a trainer, and the iterator over its first epoch."""
    import torch
    from fairseq.data import iterators
    from fairseq.tasks import setup_task
    from fairseq.trainer import Trainer

    import fairseq_vgs  # noqa: F401 - registers the task

    torch.manual_seed(1)
    task = setup_task(cfg.task)
    criterion, model = task.build_criterion(cfg.criterion), task.build_model(cfg.model)
    trainer = Trainer(cfg, task, model, criterion)
    epoch = trainer.get_train_iterator(1)
    trainer.begin_epoch(1)
    return trainer, iterators.GroupedIterator(epoch.next_epoch_itr(shuffle=False), 1)


def relative(actual: Any, expected: Any) -> float:
    """Return the norm of a difference relative to that of what is expected."""
    import torch

    difference = torch.linalg.vector_norm(actual.double().cpu() - expected.double().cpu())
    return float(difference / torch.linalg.vector_norm(expected.double()).cpu().clamp(min=1e-12))


def losses_and_gradients(trainer: Any, sample: Any, device: str, *, bf16: bool) -> dict[str, Any]:
    """Compute both losses and their gradients in evaluation mode, in which the host draws the negatives."""
    import torch
    from fairseq import utils

    model, criterion = trainer.model.to(device), trainer.criterion
    model.autocast_enabled = bf16
    model.eval()
    model.zero_grad()
    sample = utils.apply_to_sample(lambda x: x.to(device), sample)
    with torch.no_grad():
        speech = model.encode_speech(sample["net_input"]["source"], sample["net_input"]["padding_mask"])
        image = model.encode_image(sample["net_input"]["image"])
    torch.manual_seed(0)
    ssl_loss, vgs_loss = criterion.separate_losses(model, sample)
    (ssl_loss + vgs_loss).backward()
    gradients = [p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None]
    return {
        "SSL loss": ssl_loss.detach().cpu().view(1),
        "VGS loss": vgs_loss.detach().cpu().view(1),
        "gradients": torch.cat(gradients),
        "speech embeddings": speech.cpu(),
        "picture embeddings": image.cpu(),
    }


def correct(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the device with the CPU."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    trainer, batches = training(settings("vgs_plus", args.device, "dataset.batch_size=4", "common.cpu=true"))
    sample = next(batches)[0]
    expected = losses_and_gradients(trainer, sample, "cpu", bf16=False)
    found: dict[str, Any] = {}
    for name, bf16 in (("f32", False), ("as trained", True)):
        actual = losses_and_gradients(trainer, sample, args.device, bf16=bf16)
        differences = {what: relative(actual[what], expected[what]) for what in expected}
        found[name] = differences
        if not max(differences.values()) < TOLERANCES[name]:
            raise AssertionError(f"{name}: {differences}, tolerance {TOLERANCES[name]}")
    return found


def step_arms(args: argparse.Namespace, *extra: str) -> dict[str, Any]:
    """Run train_step.py and return what it measured."""
    result = args.output / f"train_step{'-'.join(['', *extra[1:2]])}.json"
    sizes = (
        ["--model", "tiny", "--batch-size", "2", "--updates", "1"]
        if args.device == "cpu"
        else ["--batch-size", "64", "--updates", "8", "--workers", "8"]
    )
    script = str(CHECKOUT / "benchmarks" / "train_step.py")
    command = [sys.executable, script, "--device", args.device, *sizes, *extra, "--json", str(result)]
    subprocess.run(command, check=True)
    measured = json.loads(result.read_text(encoding="utf-8"))
    rows = {
        arm["arm"]: {
            "captions/s": arm["captions_per_second"],
            "share of peak": arm["peak_share"],
            "GiB": arm["peak_memory_bytes"] / 2**30,
            "waiting": arm["waiting_share"],
        }
        for arm in measured["arms"]
    }
    return {**rows, "ratios": measured["ratios"], "peaks": measured["peaks"]}


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the arms of train_step.py."""
    return step_arms(args, "--arms", "padded", "ours", "ssl")


def compiled(args: argparse.Namespace) -> dict[str, Any]:
    """Measure ours with compiled layers."""
    return step_arms(args, "--arms", "compiled")


def scenarios(args: argparse.Namespace) -> dict[str, Any]:
    """Train every scenario for some updates."""
    from fairseq_vgs.study.settings import SCENARIOS

    return {scenario: _ten_updates(scenario, args.device) for scenario in SCENARIOS}


def _ten_updates(scenario: str, device: str) -> dict[str, Any]:
    from fairseq.logging import metrics

    trainer, batches = training(settings(scenario, device, "checkpoint.finetune_from_model=null"))
    start, losses = time.perf_counter(), []
    for _, samples in zip(range(N_UPDATES), batches, strict=False):
        with metrics.aggregate(new_root=True) as logged:
            trainer.train_step(samples)
        losses.append(logged.get_smoothed_values()["loss"])
    if len(losses) < N_UPDATES or not all(math.isfinite(loss) for loss in losses):
        raise AssertionError(f"{scenario}: losses {losses}")
    return {"updates": len(losses), "first loss": losses[0], "last loss": losses[-1],
            "s": time.perf_counter() - start}  # fmt: skip


def profile(args: argparse.Namespace) -> dict[str, Any]:
    """Profile three updates after two to warm up."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    trainer, batches = training(settings("vgs_plus", args.device))
    for _ in range(2):
        trainer.train_step(next(batches))
    on_gpu = args.device != "cpu"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with record(activities=kinds) as found:
        for _ in range(3):
            trainer.train_step(next(batches))
    averages = found.key_averages()
    order = f"self_{'device' if on_gpu else 'cpu'}_time_total"
    (args.output / "profile.txt").write_text(averages.table(sort_by=order, row_limit=40), encoding="utf-8")
    found.export_chrome_trace(str(args.output / "profile.json.gz"))
    times = sorted(((getattr(row, order), row.key) for row in averages), reverse=True)
    total = sum(share for share, _ in times) or 1.0
    waits = sum(row.count for row in averages if "Synchronize" in row.key or row.key == "aten::item")
    return {**{key: share / total for share, key in times[:8]}, "waits of the host per update": waits / 3}


def command(args: argparse.Namespace) -> dict[str, Any]:
    """Run fairseq-hydra-train for some updates."""
    folder = args.output / "run"
    how = ["common.cpu=true"] if args.device == "cpu" else ["common.cpu=false", "model.autocast=bf16"]
    start = time.perf_counter()
    module = [sys.executable, "-m", "fairseq_vgs_compat", "fairseq_cli.hydra_train"]
    configuration = ["--config-dir", str(EXAMPLES), "--config-name", "vgs_plus", f"hydra.run.dir='{folder}'"]
    sizes = [
        f"optimization.max_update={N_UPDATES}",
        "lr_scheduler.warmup_updates=2",
        "common.log_format=simple",
    ]
    done = subprocess.run([*module, *configuration, *sizes, *how], check=True, capture_output=True, text=True)
    (args.output / "command.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    checkpoint = folder / "checkpoints" / "checkpoint_last.pt"
    return {"s": time.perf_counter() - start, "checkpoint MB": checkpoint.stat().st_size / 1e6}


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Extract features and measure ABX on the device and on the CPU."""
    checkpoint = str(args.output / "run" / "checkpoints" / "checkpoint_last.pt")
    tool = [sys.executable, "-m", "fairseq_vgs.cli.main"]
    found: dict[str, Any] = {}
    for device in dict.fromkeys(("cpu", args.device)):
        start = time.perf_counter()
        folder = args.output / f"abx-{device}"
        given = [checkpoint, str(EMBEDDED / "abx"), "--baseline", "none", "--device", device]
        subprocess.run([*tool, "evaluate", "abx", *given, "--output", str(folder), "--force"], check=True)
        found[f"ABX on {device}, s"] = time.perf_counter() - start
        features = args.output / f"features-{device}"
        shutil.rmtree(features, ignore_errors=True)
        given = [checkpoint, str(EMBEDDED), "--split", "valid", "--device", device]
        start = time.perf_counter()
        subprocess.run([*tool, "extract", *given, "--output", str(features)], check=True)
        found[f"extraction on {device}, s"] = time.perf_counter() - start
    errors = [abx_errors(args.output / f"abx-{device}") for device in ("cpu", args.device)]
    points = max(abs(a - b) for a, b in zip(*errors, strict=True))
    if not points <= MOST_POINTS:
        raise AssertionError(f"ABX on the device differs from the CPU's by {points} points")
    return {**found, "ABX, largest difference, points": points}


def abx_errors(results: Path) -> list[float]:
    """Read the errors of all layers, percent."""
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    return [layer["value"] for layer in metrics["models"]["trained"]["metrics"].values()]


def nccl(args: argparse.Namespace) -> dict[str, Any]:
    """Run collectives and a wrapped model on a single rank."""
    import tempfile

    import torch
    import torch.distributed as dist

    backend = "gloo" if args.device == "cpu" else "nccl"
    with tempfile.NamedTemporaryFile() as meeting:
        dist.init_process_group(backend, init_method=f"file://{meeting.name}", rank=0, world_size=1)
        rows = torch.ones(4, 3, device=args.device)
        received = [torch.empty_like(rows)]
        dist.all_gather(received, rows)
        dist.all_reduce(rows)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2).to(args.device))
        model(rows).sum().backward()
        if not torch.equal(received[0], torch.ones_like(rows)) or model.module.weight.grad is None:
            raise AssertionError("collectives of one rank")
        dist.destroy_process_group()
    return {"backend": backend}


PARTS: dict[str, Part] = {
    part.__name__: part for part in (correct, speed, compiled, scenarios, profile, command, evaluate, nccl)
}


def run_parts(args: argparse.Namespace) -> dict[str, Any]:
    """Run the parts one after the other, each in a process of its own."""
    found: dict[str, Any] = {}
    for name in args.parts:
        result, log = args.output / f"{name}.json", args.output / f"{name}.log"
        result.unlink(missing_ok=True)
        again = [sys.executable, __file__, str(args.output), "--device", args.device, "--part", name]
        limit = LIMITS[name] * (4 if args.device == "cpu" else 1)
        start = time.perf_counter()
        with log.open("w", encoding="utf-8") as file:
            status = _status(again, file, limit)
        found[name] = {"status": status, "seconds": time.perf_counter() - start}
        if result.is_file():
            found[name]["found"] = json.loads(result.read_text(encoding="utf-8"))
        print(f"{name}: {status}, {found[name]['seconds']:.0f} s", file=sys.stderr, flush=True)
    return found


def _status(words: list[str], file: Any, limit: int) -> str:
    process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        code = process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # with the processes that it started
        process.wait()
        return f"stopped after {limit} s"
    return "good" if code == 0 else f"failed ({code}), see the log"


def table(result: dict[str, Any]) -> str:
    """Lay the result out as Markdown: one row per value."""
    lines = ["| part | what | value |", "|---|---|---|"]
    for name, part in result["parts"].items():
        lines.append(f"| {name} | {part['status']} | {part['seconds']:.0f} s |")
        lines += [f"| | {what} | {value} |" for what, value in _flat(part.get("found", {}))]
    return "\n".join([*lines, "", result["machine"]])


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{key}: ")
        else:
            rows.append((f"{before}{key}", f"{value:.3g}" if isinstance(value, float) else str(value)))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Run all parts, or in a process of its own one; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for the table, the JSON file, logs and the profile")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.output = args.output.resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.part is not None:
        text = json.dumps(PARTS[args.part](args), indent=2)
        (args.output / f"{args.part}.json").write_text(text + "\n", encoding="utf-8")
        return 0
    from benchmarks.train_step import machine

    result = {"parts": run_parts(args), "machine": machine(args.device, os.cpu_count() or 1)}
    (args.output / "gpu_check.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (args.output / "gpu_check.md").write_text(table(result) + "\n", encoding="utf-8")
    print(table(result))
    return 0 if all(part["status"] == "good" for part in result["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
