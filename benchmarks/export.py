"""Measure the export of a model, and the speed of the folder against that of the model in fairseq.

    python benchmarks/export.py                  # the base model on pixels, with drawn weights
    python benchmarks/export.py --run RUN        # one's own

Both embed the same recordings (noise, with lengths like SpokenCOCO's) in one batch and the same pictures of
640 x 480, from files: the checkpoint by vgs.load, the folder by transformers alone. Each has a process of its
own; they take turns, and the first round is not counted. Prints CPU seconds (medians) and the median over the
rounds of the ratio fairseq to folder: more than 1 means that the folder is quicker.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image

MEAN_SECONDS, LOG_SIGMA, MAX_SECONDS, RATE = 4.4, 0.33, 8.0, 16_000
KINDS = ("speech", "pictures")


def write_media(folder: Path, *, n_recordings: int, n_pictures: int) -> None:
    """Draw recordings and pictures; these have objects on white, for models that look for them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(n_recordings):
        seconds = min(rng.lognormal(np.log(MEAN_SECONDS) - LOG_SIGMA**2 / 2, LOG_SIGMA), MAX_SECONDS)
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(int(seconds * RATE)), RATE)
    for number in range(n_pictures):
        picture = Image.new("RGB", (640, 480), "white")
        for left in (40, 360):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            picture.paste(Image.fromarray(pixels).resize((240, 240)), (left, 120))
        picture.save(folder / f"{number}.jpg", quality=90)


def write_base_model(path: Path) -> Path:
    """Write a checkpoint of the base model on pixels, as if trained without a single update."""
    from omegaconf import OmegaConf

    from fairseq_vgs.models import VgsWav2Vec2Config
    from fairseq_vgs.models.build import VgsModel

    cfg = VgsWav2Vec2Config()
    cfg.image_encoder, cfg.quantize_targets = "patches", True
    torch.manual_seed(0)
    model: Any = VgsModel.build_model(cfg)
    own = OmegaConf.to_container(OmegaConf.structured(cfg), resolve=True, enum_to_str=True)
    config = {
        "task": {"_name": "vgs_pretraining", "valid_max_seconds": 10.0, "normalize": True},
        "criterion": {"_name": "vgs_multitask", "similarity": "cosine"},
        "model": {**own, "_name": "vgs_wav2vec2"},
    }
    torch.save({"cfg": config, "model": model.state_dict(), "optimizer_history": []}, path)
    return path


def of_fairseq(path: str) -> dict[str, Callable[[list[str]], Any]]:
    """Return what embeds files by a checkpoint."""
    import fairseq_vgs as vgs

    model = vgs.load(path, device="cpu")
    return {"speech": model.embed_speech, "pictures": model.embed_images}


def of_folder(path: str) -> dict[str, Callable[[list[str]], Any]]:
    """Return what embeds files by an exported folder."""
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(path, trust_remote_code=True).eval()
    read_speech = AutoFeatureExtractor.from_pretrained(path, trust_remote_code=True)
    read_pictures = AutoImageProcessor.from_pretrained(path, trust_remote_code=True)

    def embed_speech(files: list[str]) -> Any:
        waves = [soundfile.read(file, dtype="float32")[0] for file in files]
        cut = {"truncation": True, "max_length": read_speech.max_samples, "padding": True}
        return model.get_speech_features(
            **read_speech(waves, sampling_rate=RATE, return_tensors="pt", **cut)
        ).numpy()

    def embed_pictures(files: list[str]) -> Any:
        return model.get_image_features(**read_pictures(files)).numpy()

    return {"speech": embed_speech, "pictures": embed_pictures}


@torch.inference_mode()
def work(arm: str, model: str, media: str) -> None:
    """Embed all files for every line that comes in; write CPU seconds and embeddings' sums."""
    torch.set_num_threads(1)
    embed = {"fairseq": of_fairseq, "folder": of_folder}[arm](model)
    files = {
        kind: sorted(map(str, Path(media).glob(f"*.{ending}")))
        for kind, ending in zip(KINDS, ("wav", "jpg"), strict=True)
    }
    for _ in sys.stdin:
        told = {}
        for kind in KINDS:
            before = time.process_time()
            rows = embed[kind](files[kind])
            told[kind] = {"seconds": time.process_time() - before, "rows": np.asarray(rows)[:2, :8].tolist()}
        print(json.dumps(told), flush=True)


def take_turns(models: dict[str, Path], media: Path, n_rounds: int) -> list[dict[str, Any]]:
    """Run the rounds; return what both processes told in each."""
    command = [sys.executable, __file__, "--worker"]
    workers = {
        arm: subprocess.Popen(
            [*command, arm, str(path), str(media)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for arm, path in models.items()
    }
    rounds = []
    for number in range(n_rounds + 1):
        told = {}
        for arm in sorted(workers, reverse=bool(number % 2)):
            worker: Any = workers[arm]
            print("go", file=worker.stdin, flush=True)
            told[arm] = json.loads(worker.stdout.readline())
        rounds.append(told)
    for worker in workers.values():
        worker.communicate()
    return rounds[1:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="run or checkpoint (default: the base model, drawn)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--recordings", type=int, default=4, metavar="N")
    parser.add_argument("--pictures", type=int, default=4, metavar="N")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        source = args.run or write_base_model(here / "base.pt")
        export = [sys.executable, "-m", "fairseq_vgs.cli.main", "export", str(source), str(here / "hub")]
        start = time.monotonic()
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"export: {time.monotonic() - start:.1f} s of wall time, all of the command")
        write_media(here / "media", n_recordings=args.recordings, n_pictures=args.pictures)
        models = {"fairseq": source, "folder": here / "hub"}
        report(take_turns(models, here / "media", args.rounds))


def report(rounds: list[dict[str, Any]]) -> None:
    """Print seconds and ratios; refuse embeddings that are not the same."""
    print(f"{'':<10}{'fairseq, CPU s':>16}{'folder, CPU s':>16}{'ratio':>8}   of {len(rounds)} rounds")
    for kind in KINDS:
        for told in rounds:
            np.testing.assert_allclose(*(told[arm][kind]["rows"] for arm in told), rtol=0, atol=1e-4)
        seconds = {arm: [told[arm][kind]["seconds"] for told in rounds] for arm in ("fairseq", "folder")}
        ratios = [slow / quick for slow, quick in zip(seconds["fairseq"], seconds["folder"], strict=True)]
        middle = [median(seconds[arm]) for arm in ("fairseq", "folder")]
        spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"{kind:<10}{middle[0]:>16.3f}{middle[1]:>16.3f}{median(ratios):>8.2f}   {spread}")


if __name__ == "__main__":
    main()
