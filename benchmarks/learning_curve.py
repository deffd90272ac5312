"""Recall over CPU minutes: the authors' procedure against ours, on the quickstart's scenes and at its sizes.

    fairseq-vgs prepare scenes outputs/scenes
    python benchmarks/learning_curve.py outputs/scenes outputs/learning_curve     # nine runs of 4 minutes
    python benchmarks/learning_curve.py --redraw                                  # draw the results again

Every arm trains from random weights with fairseq's trainer for the same CPU time, on one thread and with data
loaded in the same process. Its learning-rate schedule ends there: the number of updates follows from the time
that an update of the arm takes, measured once before the first run. After every eighth of a run, outside of
the measured time, the unseen test scenes are ranked. Sizes are those of model=tiny, batches have 32 pairs.

authors         model=authors, the paper's losses and recipe (run_config=gpu_1), in fp32 with fairseq's own
                operations: ResDAVEnet, dropout 0.1, learning rate 0.0001, speech padded to 6 s, the longest
                caption (51 % padding; 49 % in SpokenCOCO padded to 8 s). Attention has no dropout, as in
                model=tiny: it would take more time.
authors_faster  the same with ten times the learning rate, as high as ours: the paper's is for 647,640 updates
ours            the quickstart: model=tiny run_config=cpu

An interrupted benchmark goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairseq_vgs.arrays import F64
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.text_tables import text_table
from fairseq_vgs.report.plots import BLUE, GREY, ORANGE, Figure, Panel, Series, write_figure

CHECKOUT = Path(__file__).resolve().parents[1]
CONFIGS = CHECKOUT / "examples" / "vgs"
RESULTS = CHECKOUT / "benchmarks" / "learning_curve.json"
PLOT = CHECKOUT / "docs" / "images" / "learning_curve.png"
POINTS = 8  # rankings in a run
WARM_UP, TIMED = 3, 12  # updates
METRIC = "speech_to_image_r10"
LEVELS = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)

AUTHORS = (
    "run_config=gpu_1",
    "common.cpu=true",
    "common.fp16=false",
    "dataset.batch_size=32",
    "task.max_seconds=6.0",
    "task.valid_max_seconds=6.0",
    "model.autocast=none",
    "model.arithmetic=fairseq",
    "model.speech_head=resdavenet",
)


@dataclass(frozen=True)
class Arm:
    """A way to train: Hydra overrides on top of model=tiny, a group file merged last, share of warm-up."""

    label: str
    colour: str
    overrides: tuple[str, ...]
    last: str | None = None
    warm_up: float = 0.1


ARMS = {
    "authors": Arm("the authors' procedure", ORANGE, AUTHORS, "model/authors.yaml"),
    "authors_faster": Arm(
        "the same, ten times the learning rate",
        GREY,
        (*AUTHORS, "optimization.lr=[0.001]"),
        "model/authors.yaml",
    ),
    "ours": Arm("ours", BLUE, ("run_config=cpu",), warm_up=0.075),
}


@dataclass
class Curve:
    """A run: CPU seconds of training and recalls in percent after some updates."""

    arm: str
    seed: int
    updates: list[int] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    recalls: list[dict[str, float]] = field(default_factory=list)


def configure(arm: Arm, data: Path, folder: Path, *, updates: int, seed: int) -> Any:
    """Compose an arm's configuration from the examples'."""
    from fairseq.dataclass.initialize import add_defaults, hydra_init
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import fairseq_vgs

    overrides = [
        "model=tiny",
        *arm.overrides,
        f"common.user_dir={Path(fairseq_vgs.__file__).parent}",
        f"common.seed={seed}",
        f"task.data={data}",
        "task.history_file=null",
        "dataset.num_workers=0",
        f"checkpoint.save_dir={folder}",
        f"optimization.max_update={updates}",
        f"lr_scheduler.warmup_updates={max(1, round(arm.warm_up * updates))}",
    ]
    hydra_init("vgs_plus")
    with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.1"):
        cfg = compose(config_name="vgs_plus", overrides=overrides)
    add_defaults(cfg)
    if arm.last is not None:
        OmegaConf.set_struct(cfg, False)
        cfg = OmegaConf.merge(cfg, OmegaConf.load(CONFIGS / arm.last))
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


class Run:
    """A trainer that has trained for a known time, and the scenes it is measured on."""

    def __init__(self, cfg: Any) -> None:
        import torch
        from fairseq import utils
        from fairseq.tasks import setup_task
        from fairseq.trainer import Trainer

        from fairseq_vgs.features.embeddings import open_split

        torch.set_num_threads(1)
        utils.set_torch_seed(cfg.common.seed)
        self.cfg = cfg
        self.task = setup_task(cfg.task)
        criterion, model = self.task.build_criterion(cfg.criterion), self.task.build_model(cfg.model)
        self.trainer = Trainer(cfg, self.task, model, criterion)
        self.test = open_split(Path(cfg.task.data), "test", config={"task": cfg.task, "model": cfg.model})
        self.epoch = self.trainer.get_train_iterator(1, load_dataset=True)
        self.trainer.lr_step(1)
        self.seconds = 0.0

    def batches(self) -> Iterator[list[Any]]:
        """Yield batches without end, from where the run is."""
        from fairseq.data.iterators import GroupedIterator

        while True:
            batches = GroupedIterator(self.epoch.next_epoch_itr(shuffle=True), 1)
            self.trainer.begin_epoch(self.epoch.epoch)
            yield from batches
            self.trainer.lr_step(self.epoch.epoch)
            self.epoch = self.trainer.get_train_iterator(self.epoch.next_epoch_idx, load_dataset=False)

    def train(self, batches: Iterator[list[Any]], n_updates: int) -> None:
        """Train; loading counts as training does."""
        start = time.process_time()
        for _ in range(n_updates):
            self.trainer.train_step(next(batches))
        self.seconds += time.process_time() - start

    def recalls(self) -> dict[str, float]:
        """Rank the test scenes; percent."""
        import fairseq_vgs as vgs
        from fairseq_vgs.features.embeddings import embed_split

        found = embed_split(self.trainer.get_model(), self.test, device="cpu")
        pictures = [self.test.image_ids[number] for number in self.test.caption_image]
        ranked = vgs.retrieval(
            found.speech,
            found.images,
            pictures,
            ids_of_images=self.test.image_ids,
            similarity=str(self.cfg.task.similarity),
        )
        return {name: value for name, value in ranked.values.items() if not name.endswith("rank")}

    def save(self, path: Path, curve: Curve) -> None:
        """Save a checkpoint of the run."""
        state = {"train_iterator": self.epoch.state_dict(), "curve": asdict(curve)}
        self.trainer.consolidate_optimizer()
        self.trainer.save_checkpoint(str(path), state)

    def load(self, path: Path) -> Curve:
        """Go on from a checkpoint."""
        state = self.trainer.load_checkpoint(str(path))
        iterator = state["train_iterator"]
        self.epoch = self.trainer.get_train_iterator(iterator["epoch"], load_dataset=False)
        self.epoch.load_state_dict(iterator)
        self.trainer.lr_step(self.epoch.epoch)
        curve = Curve(**state["curve"])
        self.seconds = curve.cpu_seconds[-1]
        return curve


def seconds_per_update(cfg: Any) -> float:
    """Measure the CPU time of an update of random batches."""
    run = Run(cfg)
    batches = run.batches()
    run.train(batches, WARM_UP)
    run.seconds = 0.0
    run.train(batches, TIMED)
    return run.seconds / TIMED


def train(cfg: Any, arm: str, result: Path) -> None:
    """Train and measure a run to its end; write its curve."""
    run, checkpoint = Run(cfg), result.with_suffix(".pt")
    curve = Curve(arm, int(cfg.common.seed))
    if checkpoint.is_file():
        curve = run.load(checkpoint)
    batches, done = run.batches(), run.trainer.get_num_updates()
    for update in np.linspace(0, cfg.optimization.max_update, POINTS + 1).round().astype(int).tolist():
        if update < done or update in curve.updates:
            continue
        run.train(batches, update - done)
        done = update
        curve.updates.append(update)
        curve.cpu_seconds.append(run.seconds)
        curve.recalls.append(run.recalls())
        if update > 0:
            run.save(checkpoint, curve)
        done_so_far = f"update {update}, {run.seconds / 60:.2f} CPU min"
        say(f"{arm}, seed {curve.seed}: {done_so_far}, R@10 {curve.recalls[-1][METRIC]:.1f} %")
    write_json(result, asdict(curve))
    checkpoint.unlink()


def run_all(args: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing in the output folder, each run in its own process; return the results."""
    args.output.mkdir(parents=True, exist_ok=True)
    curves = []
    for seed in args.seeds:
        for arm in args.arms:
            result = args.output / f"{arm}_{seed}.json"
            if not result.is_file():
                plan = args.output / f"{arm}.json"
                if not plan.is_file():
                    in_own_process(args, arm, seed, plan)
                seconds = json.loads(plan.read_text(encoding="utf-8"))["seconds_per_update"]
                updates = max(POINTS, round(args.minutes * 60 / seconds))
                in_own_process(args, arm, seed, result, "--updates", str(updates))
            curves.append(json.loads(result.read_text(encoding="utf-8")))
    return {"minutes": args.minutes, "curves": curves}


def in_own_process(args: argparse.Namespace, arm: str, seed: int, result: Path, *options: str) -> None:
    """Run a part of the benchmark on one thread, with its own state of fairseq."""
    command = [sys.executable, "-W", "ignore", __file__, str(args.data), str(args.output), "--arms", arm]
    command += ["--seeds", str(seed), "--result", str(result), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    subprocess.run(command, check=True, env=environment)


def run_part(args: argparse.Namespace) -> None:
    """Measure the time of an update, or train a run."""
    (name,), (seed,) = args.arms, args.seeds
    folder = args.output.resolve() / f"{name}_{seed}"
    n_updates = args.updates or 1000
    cfg = configure(ARMS[name], args.data.resolve(), folder, updates=n_updates, seed=seed)
    if args.updates is None:
        write_json(args.result, {"arm": name, "seconds_per_update": seconds_per_update(cfg)})
    else:
        train(cfg, name, args.result)


def minutes_to(level: float, minutes: F64, recall: F64) -> float:
    """Return when a curve first reaches a level, linear between its points; infinite if it never does."""
    above = np.flatnonzero(recall >= level)
    if not above.size:
        return float("inf")
    after = int(above[0])
    if after == 0:
        return float(minutes[0])
    share = (level - recall[after - 1]) / (recall[after] - recall[after - 1])
    return float(minutes[after - 1] + share * (minutes[after] - minutes[after - 1]))


def mean_curve(curves: Sequence[Mapping[str, Any]], metric: str) -> tuple[F64, F64, F64, F64]:
    """Return minutes, mean, lowest and highest recall of the seeds of an arm, f64[points] each."""
    minutes = np.mean([curve["cpu_seconds"] for curve in curves], axis=0) / 60
    values = np.array([[point[metric] for point in curve["recalls"]] for curve in curves])
    return minutes, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def by_arm(result: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Group curves by arm, in the order of ARMS."""
    found = {name: [curve for curve in result["curves"] if curve["arm"] == name] for name in ARMS}
    return {name: curves for name, curves in found.items() if curves}


def table(result: Mapping[str, Any], metric: str = METRIC) -> str:
    """Lay out the minutes in which the arms' mean curves reach levels of recall."""
    means = {name: mean_curve(curves, metric) for name, curves in by_arm(result).items()}
    rows = [[f"{metric} %", *(f"{name}, min" for name in means), *(f"ours / {name}" for name in means)]]
    rows[0] = [cell for cell in rows[0] if cell != "ours / ours"]
    for level in LEVELS:
        times = {name: minutes_to(level, minutes, mean) for name, (minutes, mean, _, _) in means.items()}
        ratios = [times["ours"] / times[name] for name in means if name != "ours"] if "ours" in times else []
        cells = [*times.values(), *ratios]
        rows.append([f"{level:g}", *(f"{cell:.2f}" if 0 < cell < np.inf else "-" for cell in cells)])
    ends = [f"{mean[-1]:.1f} [{low[-1]:.1f}, {high[-1]:.1f}]" for _, mean, low, high in means.values()]
    rows.append(["at the end", *ends, *[""] * (len(rows[0]) - 1 - len(ends))])
    return text_table(rows)


def draw(result: Mapping[str, Any], output: Path) -> None:
    """Draw recall over minutes: means of the seeds, and their range."""
    panels = []
    for metric, title in (("speech_to_image_r1", "R@1"), (METRIC, "R@10")):
        panel = Panel(f"speech → image, {title}", "%", limits=(0.0, 100.0))
        for name, curves in by_arm(result).items():
            minutes, mean, low, high = mean_curve(curves, metric)
            arm = ARMS[name]
            panel.series.append(
                Series(arm.label, mean, minutes, arm.colour, band=(low, high), cells={"minutes": ""})
            )
        panels.append(panel)
    columns = {"panel": "panel", "arm": "series", "value": "value", "low": "low", "high": "high"}
    write_figure(Figure(panels, columns, x_label="CPU minutes of training"), output, force=True)
    output.with_suffix(".csv").unlink()  # the results file holds more


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file at once."""
    with atomic_write(path, force=True) as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def say(text: str) -> None:
    """Tell how far the benchmark is."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, help="folder of fairseq-vgs prepare scenes")
    parser.add_argument("output", nargs="?", type=Path, help="folder of finished runs and checkpoints")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=4.0, help="CPU minutes of training per run")
    parser.add_argument("--redraw", action="store_true", help="draw and print the results that are there")
    parser.add_argument("--json", type=Path, default=RESULTS, help="results file")
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)  # of a run's own processes
    parser.add_argument("--updates", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not args.redraw and args.output is None:
        parser.error("expected a data folder and an output folder, or --redraw")
    return args


def main() -> None:
    """Run all arms and seeds, or draw again."""
    args = parse_arguments()
    logging.getLogger().setLevel(logging.WARNING)
    if args.result is not None:
        run_part(args)
        return
    if not args.redraw:
        write_json(args.json, run_all(args))
    result = json.loads(args.json.read_text(encoding="utf-8"))
    draw(result, args.plot)
    print(table(result))


if __name__ == "__main__":
    main()
