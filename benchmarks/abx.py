"""Measure the phone ABX engine, or fastabx in an environment that has it, on drawn features.

    python benchmarks/abx.py
    python benchmarks/abx.py --toolkit fastabx        # Python >= 3.12, pip install fastabx; no fairseq needed

2,000 tokens of 40 phones by 4 speakers in 6 contexts, 3 to 30 frames (10 on average) of 768 dims.
One condition per process (--condition), so that peaks of memory do not add up.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

CONDITIONS = ("within-within", "within-any", "across-within")  # speaker-context
N_TOKENS, N_PHONES, N_SPEAKERS, N_CONTEXTS, N_DIMS = 2000, 40, 4, 6, 768


def draw(folder: Path) -> tuple[Path, torch.Tensor]:
    """Write items and features to a folder; return both."""
    generator = np.random.RandomState(0)
    centres = generator.standard_normal((N_PHONES, N_DIMS))
    lines, frames, start = ["#file onset offset #phone prev-phone next-phone speaker"], [], 0
    for _ in range(N_TOKENS):
        phone, speaker, context = (int(generator.randint(n)) for n in (N_PHONES, N_SPEAKERS, N_CONTEXTS))
        length = int(np.clip(generator.gamma(8, 1.25), 3, 30))
        token = centres[phone] + 6 * generator.standard_normal(N_DIMS)
        frames.append(token + 12 * generator.standard_normal((length, N_DIMS)))
        lines.append(f"f {start / 50:.2f} {(start + length) / 50:.2f} p{phone} c{context} n s{speaker}")
        start += length
    features = torch.from_numpy(np.concatenate(frames).astype(np.float32))
    torch.save(features, folder / "f.pt")
    (folder / "drawn.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "drawn.item", features


def measure(toolkit: str, condition: str) -> dict[str, object]:
    """Score one condition."""
    speaker, context = condition.split("-")
    with TemporaryDirectory() as name:
        items, features = draw(Path(name))
        if toolkit == "fastabx":
            from fastabx import zerospeech_abx

            def score() -> float:
                return zerospeech_abx(
                    items,
                    name,
                    speaker=speaker,
                    context=context,
                    max_size_group=None,
                    max_x_across=None,
                    progress=False,
                    device="cpu",
                )

        else:
            from fairseq_vgs.metrics.abx import abx_scores, read_items

            def score() -> float:
                return abx_scores(
                    {"f": {"drawn": features}},
                    read_items(items),
                    speaker=speaker,
                    context=context,
                    max_size_group=None,
                    max_x_across=None,
                )["drawn"].error

        before, cpu, wall = peak_mb(), time.process_time(), time.perf_counter()
        error = score()
        return {
            "toolkit": toolkit,
            "condition": condition,
            "error": error,
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "wall_seconds": round(time.perf_counter() - wall, 2),
            "peak_mb": peak_mb(),
            "peak_mb_before": before,
            "threads": torch.get_num_threads(),
        }


def peak_mb() -> int:
    """Return the most memory the process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def main() -> None:
    """Measure all conditions, or one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toolkit", choices=("fairseq_vgs", "fastabx"), default="fairseq_vgs")
    parser.add_argument("--condition", choices=CONDITIONS)
    args = parser.parse_args()
    if args.condition:
        print(json.dumps(measure(args.toolkit, args.condition)))
        return
    for condition in CONDITIONS:
        command = [sys.executable, __file__, "--toolkit", args.toolkit, "--condition", condition]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
