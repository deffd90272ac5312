"""Extract features and measure phone ABX at the size of LibriSpeech's dev-clean: 5.4 hours.

    python benchmarks/dev_clean.py --copies 2              # 17 minutes of speech
    python benchmarks/dev_clean.py                         # 38 copies: 5.4 hours, 152,000 items
    python benchmarks/dev_clean.py --model base --copies 1 --steps extract

The embedded phone-aligned recordings (8.6 minutes), copied with a little noise of their own, as if by so many
speakers. Models are untrained. Each step is a command of its own, as a user would type it; what is printed is
its wall time, CPU time and highest memory. Everything is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the other benchmarks

from benchmarks.million_pairs import Step, measure
from benchmarks.train_step import REGION_DIM, Plan, configure
from fairseq_vgs.features.recordings import open_recordings
from fairseq_vgs.manifest import AudioRow, write_audio_list
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.models.build import VgsModel

EMBEDDED = Path(__file__).resolve().parents[1] / "manifests" / "embedded" / "abx"
ITEMS = "triphone.item"
NOISE = 1e-3
STEPS = ("extract", "abx", "abx-across")


def generate(folder: Path, n_copies: int) -> float:
    """Write recordings, their audio list and items; return the hours of speech."""
    draws = np.random.default_rng(1)
    header, *items = (EMBEDDED / ITEMS).read_text(encoding="utf-8").splitlines()
    recordings = {name: one.waveform() for name, one in open_recordings(EMBEDDED, "test").items()}
    rows, lines = [], [header]
    for copy in range(n_copies):
        (folder / f"s{copy:02d}").mkdir(parents=True)
        for name, waveform in recordings.items():
            path = f"s{copy:02d}/{name}_{copy:02d}.flac"
            noisy = (waveform + NOISE * draws.standard_normal(len(waveform))).clip(-1, 1)
            soundfile.write(folder / path, noisy, SAMPLE_RATE, subtype="PCM_16")
            rows.append(AudioRow(path, len(waveform)))
        for item in items:
            file, *fields, _ = item.split()
            lines.append(" ".join([f"{file}_{copy:02d}", *fields, f"s{copy:02d}"]))
    write_audio_list(folder / "test.tsv", rows, root=".")
    (folder / ITEMS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sum(row.n_samples for row in rows) / SAMPLE_RATE / 3600


def write_checkpoint(path: Path, model: str) -> Path:
    """Write a checkpoint of a model that was never trained."""
    cfg = configure(Plan("", [], model, "cpu", 1, 0), "ours")
    cfg.model.image_dim = REGION_DIM
    torch.manual_seed(1)
    built = VgsModel.build_model(cfg.model)
    sections = ("task", "criterion", "model")
    config = {name: OmegaConf.to_container(cfg[name], enum_to_str=True) for name in sections}
    torch.save({"cfg": config, "model": built.state_dict(), "optimizer_history": []}, path)
    return path


def command(step: str, folder: Path, checkpoint: Path) -> Sequence[str]:
    """Return the command of a step; baselines are left out of ABX."""
    vgs, data = str(Path(sys.executable).with_name("fairseq-vgs")), str(folder / "data")
    device = ("--device", "cpu")
    if step == "extract":
        return (vgs, "extract", str(checkpoint), data, "--output", str(folder / "features"), *device)
    speaker = "across" if step == "abx-across" else "within"
    output = ("--output", str(folder / step), "--baseline", "none", "--speaker", speaker)
    return (vgs, "evaluate", "abx", str(checkpoint), data, *output, *device)


def run(folder: Path, args: argparse.Namespace) -> list[Step]:
    """Generate the data and measure every step."""
    hours = generate(folder / "data", args.copies)
    checkpoint = write_checkpoint(folder / "model.pt", args.model)
    found = []
    for step in args.steps:
        found.append(measure(f"{step}, {args.model}, {hours:.2f} h", command(step, folder, checkpoint)))
        print(found[-1], file=sys.stderr, flush=True)
    return found


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=38, help="of 8.6 minutes (default: 38)")
    parser.add_argument("--model", choices=("tiny", "base"), default="tiny")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    return parser.parse_args(argv)


def main() -> None:
    """Measure all steps, print JSON."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        print(json.dumps([asdict(step) for step in run(Path(name), args)], indent=1))


if __name__ == "__main__":
    main()
