"""Compare a training update in the predecessors' procedure, in ours, and in stock fairseq (SSL alone).

    python benchmarks/train_step.py                                              # base model on a CPU
    python benchmarks/train_step.py --device cuda --batch-size 64 --updates 20 --workers 8
    python benchmarks/train_step.py --quickstart --baseline CHECKOUT             # tiny model, its scenes

Captions are noise with lengths like SpokenCOCO's: log-normal with a mean of 4.4 s, cut at 8 s. Their batches
are planned by the package's data set, and --updates of them are chosen evenly from the longest to the
shortest. Every arm trains on exactly these captions with fairseq's trainer, in a separate process: an update
is loading, forward, backward, clipping and Adam.

padded   all speech padded to 8 s, fp32, fairseq's own operations, masks and negatives drawn on the host in
         the forward pass: the authors' procedure, with nothing added that would slow it down
ours     the same model and losses (VGS+) as this package trains them: batches of similar length, masks from
         the data workers, bf16 autocast where the hardware has units for it
ssl      fairseq's Wav2Vec2Model and wav2vec criterion on the batches of `ours`, at the precision of `ours`
fairseq  `ours` with model.arithmetic=fairseq (not run by default)
compiled `ours` with compiled transformer layers; warming up does not cover every length (not run by default)
baseline `ours` as another checkout of this package trains it (--baseline)

With --quickstart, batches are those of the quickstart (scenes, tiny model, 32 captions), and arms take turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from fairseq.data import iterators
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from fairseq.tasks import setup_task
from fairseq.trainer import Trainer
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils import flop_counter

import fairseq_vgs
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import AudioRow, ImageRow, PairRow, RegionRow
from fairseq_vgs.manifest.tables import write_audio_list, write_images, write_pairs, write_regions
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.models.settings import autocast_enabled
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers

MEAN_SECONDS, LOG_SIGMA, MIN_SECONDS, MAX_SECONDS = 4.4, 0.33, 1.0, 8.0
CAPTIONS_PER_IMAGE, N_REGIONS, REGION_DIM, N_FEATURES = 5, 36, 2048, 1024
POOL = 8  # batches planned for every batch that is run
ARMS: dict[str, tuple[str, ...]] = {
    "padded": (
        "task.pad_to_max=true",
        "model.padding=fast_vgs",
        "model.arithmetic=fairseq",
        "model.autocast=none",
    ),
    "ours": ("model.autocast=auto",),
    "ssl": ("model.autocast=auto",),
    "fairseq": ("model.autocast=auto", "model.arithmetic=fairseq"),
    "compiled": ("model.autocast=auto", "model.compile=layers", "task.length_buckets=6"),
    "baseline": ("model.autocast=auto",),
}
OURS = ("ours", "fairseq", "compiled", "baseline")
# The recipe of run_config=cpu is the quickstart's: no dropout, and a second, unmasked pass for VGS.
PAPERS = ("run_config=gpu_1",)
UNCOUNTED = torch.ops.aten  # operations that torch's counter does not know
FLOPS = {
    UNCOUNTED.baddbmm_: lambda _, a, b, **__: flop_counter.bmm_flop(a, b),
    UNCOUNTED._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: (
        flop_counter.sdpa_flop_count(q, k, v)
    ),
    UNCOUNTED._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        flop_counter.sdpa_backward_flop_count(grad, q, k, v)
    ),
}


@dataclass(frozen=True)
class Plan:
    """What all arms share. Batches are numbers of pairs; the first one, the longest, is for warming up."""

    folder: str
    batches: list[list[int]]
    model: str
    device: str
    threads: int
    workers: int
    quickstart: bool = False


class StockModel(Wav2Vec2Model):
    """fairseq's model, able to run at the precision of ours."""

    autocast = False

    def forward(self, source: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run fairseq's forward, under autocast if asked."""
        with torch.autocast(source.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return super().forward(source, *args, **kwargs)

    def apply_mask(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Mask frames; fairseq writes the fp32 mask embedding into them, which fails in bf16."""
        return super().apply_mask(x.to(self.mask_emb.dtype), *args, **kwargs)


def caption_samples(n_captions: int, *, seed: int) -> np.ndarray:
    """Draw lengths int64[n_captions], samples."""
    mean_log = np.log(MEAN_SECONDS) - LOG_SIGMA**2 / 2
    seconds = np.random.default_rng(seed).lognormal(mean_log, LOG_SIGMA, n_captions)
    return (seconds.clip(MIN_SECONDS, MAX_SECONDS) * SAMPLE_RATE).astype(np.int64)


def write_tables(path: Path, samples: np.ndarray, *, seed: int) -> None:
    """Write a data folder without speech: five captions per picture, 36 regions each."""
    folder, rng = ManifestFolder(path), np.random.default_rng(seed)
    rows = [AudioRow(f"{i}.wav", int(n)) for i, n in enumerate(samples)]
    images = [f"image{i}" for i in range(-(-len(rows) // CAPTIONS_PER_IMAGE))]
    write_audio_list(folder.audio_list("train"), rows, root=".")
    pairs = [PairRow(row.audio_id, images[i // CAPTIONS_PER_IMAGE]) for i, row in enumerate(rows)]
    write_pairs(folder.pairs("train"), pairs)
    write_images(folder.images, [ImageRow(image, f"{image}.jpg", 640, 480) for image in images], root=".")
    regions = []
    for i in range(len(images) * N_REGIONS):
        (x0, y0), (width, height) = rng.random(2) / 2, 0.1 + rng.random(2) * 0.4
        box = (float(x0), float(y0), float(x0 + width), float(y0 + height))
        regions.append(RegionRow(images[i // N_REGIONS], i % N_FEATURES, *box))
    write_regions(folder.regions, regions)
    np.save(folder.region_features, rng.standard_normal((N_FEATURES, REGION_DIM)).astype(np.float16))


def make_plan(path: Path, args: argparse.Namespace) -> Plan:
    """Write the data and choose the batches: evenly from the epoch's, which go from long to short."""
    samples = caption_samples(POOL * args.batch_size * args.updates, seed=args.seed)
    write_tables(path, samples, seed=args.seed)
    draft = Plan(str(path), [], args.model, args.device, args.threads, args.workers)
    batches = choose_batches(draft, args)
    rng = np.random.default_rng(args.seed)
    for index in {index for batch in batches for index in batch}:
        noise = rng.standard_normal(samples[index]) * 0.1
        soundfile.write(path / f"{index}.wav", noise, SAMPLE_RATE, subtype="PCM_16")
    return Plan(**{**asdict(draft), "batches": batches})


def choose_batches(draft: Plan, args: argparse.Namespace) -> list[list[int]]:
    """Choose batches evenly from an epoch's, which go from long to short; the longest one comes twice.

    Memory grows to what the longest batch needs; requesting it is not measured.
    """
    task = setup_task(configure(draft, "ours").task)
    task.load_dataset("train")
    dataset = task.dataset("train")
    epoch = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=args.batch_size)
    places = ((np.arange(args.updates) + 0.5) * len(epoch) / args.updates).astype(int)
    batches = [epoch[place].tolist() for place in places]
    return [batches[0], *batches]


def plan_quickstart(path: Path, args: argparse.Namespace) -> Plan:
    """Compose the quickstart's scenes, unless --scenes has them, and choose batches."""
    if args.scenes is None:
        command = [sys.executable, "-m", "fairseq_vgs.cli.main", "prepare", "scenes", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    folder = str((args.scenes or path).resolve())
    draft = Plan(folder, [], "tiny", args.device, args.threads, args.workers, quickstart=True)
    return Plan(**{**asdict(draft), "batches": choose_batches(draft, args)})


def configure(plan: Plan, arm: str) -> Any:
    """Compose an arm's configuration from the examples'."""
    examples = Path(fairseq_vgs.__file__).resolve().parents[1] / "examples" / "vgs"
    on_cpu = plan.device == "cpu"
    overrides = [
        f"model={plan.model}",
        *(["run_config=cpu"] if on_cpu and plan.quickstart else PAPERS),
        f"common.cpu={str(on_cpu).lower()}",
        f"common.user_dir={Path(fairseq_vgs.__file__).parent}",
        f"task.data={plan.folder}",
        *([] if plan.quickstart else [f"task.max_seconds={MAX_SECONDS}"]),
        "task.history_file=null",
        f"dataset.num_workers={plan.workers}",
        f"dataset.batch_size={max(map(len, plan.batches), default=2)}",
        f"optimization.max_update={max(2, len(plan.batches))}",
        "lr_scheduler.warmup_updates=1",
        *ARMS[arm],
    ]
    hydra_init("vgs_plus")
    with initialize_config_dir(config_dir=str(examples), version_base="1.1"):
        cfg = compose(config_name="vgs_plus", overrides=overrides)
    add_defaults(cfg)
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def stock_model(settings: Any) -> StockModel:
    """Build fairseq's own model at the sizes of ours."""
    known = {key: settings[key] for key in Wav2Vec2Config.__dataclass_fields__ if key in settings}
    model = StockModel(OmegaConf.merge(OmegaConf.structured(Wav2Vec2Config), known))
    model.autocast = autocast_enabled(settings.autocast)
    return model


def prepare(plan: Plan, arm: str) -> tuple[Trainer, Any]:
    """Build an arm's trainer and its iterator over lists of one batch."""
    cfg = configure(plan, arm)
    if arm == "ssl":
        cfg.criterion = {"_name": "wav2vec", "infonce": True, "loss_weights": cfg.criterion.loss_weights}
    torch.manual_seed(cfg.common.seed)
    np.random.seed(cfg.common.seed)  # noqa: NPY002 - fairseq draws masks from it
    task = setup_task(cfg.task)
    task.load_dataset("train")
    dataset = task.dataset("train")
    dataset.batch_by_size = lambda *_, **__: [np.array(batch) for batch in plan.batches]
    collate, layers = dataset.collater, parse_conv_layers(cfg.model.conv_feature_layers)

    def collate_for_arm(items: Any) -> dict[str, Any]:
        sample = collate(items)
        inputs = sample["net_input"]
        if arm == "padded":
            del inputs["mask_indices"]
        if arm == "ssl":
            del inputs["image"]
            numbers = inputs["mask_indices"]
            nothing = torch.zeros(len(numbers), n_frames(inputs["source"].size(1), layers), dtype=torch.bool)
            inputs["mask_indices"] = nothing.scatter(1, numbers, True)
        return sample

    dataset.collater = collate_for_arm
    criterion = task.build_criterion(cfg.criterion)
    model = stock_model(cfg.model) if arm == "ssl" else task.build_model(cfg.model)
    trainer = Trainer(cfg, task, model, criterion)
    epoch = trainer.get_train_iterator(1, load_dataset=False)
    trainer.begin_epoch(1)
    if arm in OURS:
        task.begin_epoch(1, trainer.get_model())
    return trainer, iterators.GroupedIterator(epoch.next_epoch_itr(shuffle=False), 1)


def run_arm(plan: Plan, arm: str) -> dict[str, Any]:
    """Train one update per batch after one to warm up, and measure."""
    torch.set_num_threads(plan.threads)
    trainer, batches = prepare(plan, arm)
    trainer.train_step(next(batches))
    synchronise(plan.device)
    if plan.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, cpu_seconds, waited, kept = [], 0.0, 0.0, []
    for _ in range(len(plan.batches) - 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        samples = next(batches)
        waited += time.perf_counter() - start
        trainer.train_step(samples)
        synchronise(plan.device)
        seconds.append(time.perf_counter() - start)
        cpu_seconds += time.process_time() - cpu_start
        kept.append(samples)
    peak_bytes = (
        torch.cuda.max_memory_allocated()
        if plan.device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    captions = sum(sample["nsentences"] for samples in kept for sample in samples)
    sizes = [sample["net_input"]["source"].numel() for samples in kept for sample in samples]
    speech = sum(sample["ntokens"] for samples in kept for sample in samples)
    flops = count_flops(trainer, kept[len(kept) // 2]) * sum(sizes)
    model = trainer.get_model()
    return {
        "arm": arm,
        "precision": "bf16" if getattr(model, "autocast_enabled", getattr(model, "autocast", 0)) else "fp32",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "captions": captions,
        "captions_per_second": captions / sum(seconds),
        "update_seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "padding_share": 1 - speech / sum(sizes),
        "flops_per_update": flops / len(kept),
        "flops_per_second": flops / sum(seconds),
        "peak_memory_bytes": peak_bytes,
        "waiting_share": waited / sum(seconds),
    }


def count_flops(trainer: Trainer, samples: Any) -> float:
    """Count what an update computes per sample of its batch; counting takes time, so that it comes last."""
    with flop_counter.FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
        trainer.train_step(samples)
    return counter.get_total_flops() / sum(sample["net_input"]["source"].numel() for sample in samples)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_product_peak(device: str, dtype: torch.dtype) -> float:
    """Measure the FLOP/s of one large square matrix product, best of five."""
    size = 8192 if device == "cuda" else 4096
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):  # the first one warms up
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def machine(device: str, threads: int) -> str:
    """Describe the machine that was measured."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.machine()])[0]}, {threads} threads, torch {torch.__version__}"


def table(result: dict[str, Any]) -> str:
    """Lay the result out as Markdown."""
    lines = [
        "| arm | captions/s | s per update | CPU s | padding | TFLOP | of peak | GiB | waiting for data |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in result["arms"]:
        per_update = sum(found["update_seconds"]) / len(found["update_seconds"])
        cells = [
            f"{found['arm']}, {found['precision']}",
            f"{found['captions_per_second']:.3g}",
            f"{per_update:.3g}",
            f"{found['cpu_seconds'] / len(found['update_seconds']):.3g}",
            f"{100 * found['padding_share']:.0f} %",
            f"{found['flops_per_update'] / 1e12:.3g}",
            f"{100 * found['peak_share']:.0f} %",
            f"{found['peak_memory_bytes'] / 2**30:.1f}",
            f"{100 * found['waiting_share']:.1f} %",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    peaks = ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in result["peaks"].items())
    lines += ["", f"Peak: one large matrix product, {peaks}; {result['machine']}"]
    lines += [f"{name}: {value:.2f}" for name, value in result["ratios"].items()]
    return "\n".join(lines)


def summarise(arms: list[dict[str, Any]], peaks: dict[str, float]) -> dict[str, Any]:
    """Add shares of the peak, and the ratios that the goals are set in."""
    for found in arms:
        found["peak_share"] = found["flops_per_second"] / peaks[found["precision"]]
    wanted = {
        "captions/s, ours / padded (goal: at least 4)": ("ours", "padded"),
        "cost of VGS+ (ours) / stock SSL (goal: at most 1.2)": ("ssl", "ours"),
        "captions/s, ours / fairseq's arithmetic": ("ours", "fairseq"),
        "captions/s, ours / baseline": ("ours", "baseline"),
    }
    ratios = {}
    for clock, key in (("", "update_seconds"), (", in CPU seconds", "cpu_seconds")):
        speed = {found["arm"]: found["captions"] / np.sum(found[key]) for found in arms}
        for name, (a, b) in wanted.items():
            if a in speed and b in speed:
                ratios[name + clock] = float(speed[a] / speed[b])
    return {"arms": arms, "peaks": peaks, "ratios": ratios}


def in_own_process(plan_file: Path, arm: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run an arm in a separate process, so that its peak memory and its side effects do not affect others."""
    result_file = plan_file.with_name(f"{arm}.json")
    command = [sys.executable, "-W", "ignore", __file__, "--plan", str(plan_file), "--arms", arm]
    checkout = args.baseline if arm == "baseline" else Path(fairseq_vgs.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    subprocess.run([*command, "--json", str(result_file)], check=True, env=environment)
    return json.loads(result_file.read_text(encoding="utf-8"))


def joined(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Join what an arm's turns measured of the same batches: all their updates, the highest memory."""
    whole = dict(rounds[0])
    for key in ("captions", "cpu_seconds", "update_seconds"):
        whole[key] = sum((found[key] for found in rounds[1:]), start=rounds[0][key])
    whole["captions_per_second"] = whole["captions"] / sum(whole["update_seconds"])
    for key in ("flops_per_second", "waiting_share"):
        whole[key] = float(np.mean([found[key] for found in rounds]))
    whole["peak_memory_bytes"] = max(found["peak_memory_bytes"] for found in rounds)
    return whole


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="padded, ours, ssl; --quickstart: ours")
    parser.add_argument("--model", choices=("base", "tiny"), default="base")
    parser.add_argument(
        "--quickstart", action="store_true", help="the quickstart's model, scenes and batches"
    )
    parser.add_argument("--scenes", type=Path, help="folder that has them (default: composed first)")
    parser.add_argument("--baseline", type=Path, help="another checkout, an arm of its own")
    parser.add_argument("--batch-size", type=int, help="captions (default: 8; --quickstart: 32)")
    parser.add_argument("--updates", type=int, help="measured, after one to warm up (4; --quickstart: 12)")
    parser.add_argument("--rounds", type=int, help="turns of every arm (1; --quickstart: 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1, help="processes that load data")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)  # of a run's own processes
    args = parser.parse_args(argv)
    args.batch_size = args.batch_size or (32 if args.quickstart else 8)
    args.updates = args.updates or (12 if args.quickstart else 4)
    args.rounds = args.rounds or (2 if args.quickstart else 1)
    args.arms = args.arms or (["ours"] if args.quickstart else ["padded", "ours", "ssl"])
    if args.baseline is not None:
        args.arms.append("baseline")
    return args


def main() -> None:
    """Run all arms, one after the other."""
    args = parse_arguments()
    logging.getLogger().setLevel(logging.WARNING)
    if args.plan is not None:
        plan = Plan(**json.loads(args.plan.read_text(encoding="utf-8")))
        result = run_arm(plan, args.arms[0])
    else:
        torch.set_num_threads(args.threads)
        with tempfile.TemporaryDirectory() as folder:
            plan_file = Path(folder) / "plan.json"
            plan = (plan_quickstart if args.quickstart else make_plan)(Path(folder) / "data", args)
            plan_file.write_text(json.dumps(asdict(plan)), encoding="utf-8")
            turns = [[in_own_process(plan_file, arm, args) for arm in args.arms] for _ in range(args.rounds)]
            arms = [joined(list(rounds)) for rounds in zip(*turns, strict=True)]
            precisions = {"fp32": torch.float32, "bf16": torch.bfloat16}
            used = {found["precision"] for found in arms}
            peaks = {name: matrix_product_peak(args.device, precisions[name]) for name in sorted(used)}
        result = {**summarise(arms, peaks), "machine": machine(args.device, args.threads)}
        print(table(result))
    if args.json is not None:
        with atomic_write(args.json, force=True) as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
