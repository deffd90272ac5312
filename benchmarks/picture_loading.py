"""Measure reading raw pictures: JPEGs of 640 x 480 pixels, decoded at a fraction of their size or whole.

    python benchmarks/picture_loading.py [--pictures 60] [--seconds 4]

The JPEGs are made of the embedded pictures, several on one canvas, as large as those of COCO. All variants
take turns in one process on one thread, so that the ratios hold although the machine does other work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fairseq_vgs.data.pictures import Augmentation, draw_variation, load_picture
from fairseq_vgs.files.location import MediaLocation, resolve
from fairseq_vgs.manifest.tables import read_images
from fairseq_vgs.media.pictures import read_picture

EMBEDDED = Path(__file__).parents[1] / "manifests" / "embedded"
WIDTH, HEIGHT = 640, 480
SIZES = (224, 112)


def make_jpegs(folder: Path, n_pictures: int) -> list[MediaLocation]:
    """Write canvases with six embedded pictures each and some noise, which photographs have."""
    table = read_images(EMBEDDED / "images.tsv")
    draws = np.random.default_rng(0)
    locations = []
    for number in range(n_pictures):
        noise = draws.normal(128, 40, (HEIGHT // 4, WIDTH // 4, 3)).clip(0, 255).astype(np.uint8)
        canvas = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        for row in draws.choice(len(table.rows), 6, replace=False).tolist():
            side = int(draws.integers(120, 260))
            small = read_picture(resolve(table.root, table.rows[row].path)).resize((side, side))
            canvas.paste(small, (int(draws.integers(0, WIDTH - side)), int(draws.integers(0, HEIGHT - side))))
        canvas.save(folder / f"{number}.jpg", quality=90)
        locations.append(MediaLocation(folder / f"{number}.jpg"))
    return locations


def variants(size: int) -> dict[str, Callable[[MediaLocation, int], object]]:
    """Name the ways to read one picture; the number seeds its variation."""
    augmentation = Augmentation(crop_scale=0.5, jitter=0.1)

    def plain(location: MediaLocation, number: int) -> object:  # noqa: ARG001 - all take both
        return load_picture(location, place="", image_size=size)

    def middle(location: MediaLocation, number: int) -> object:  # noqa: ARG001
        return load_picture(location, place="", image_size=size, fit="crop")

    def varied(location: MediaLocation, number: int) -> object:
        variation = draw_variation(augmentation, np.random.default_rng(number))
        return load_picture(location, place="", image_size=size, variation=variation)

    return {"evaluation, squeeze": plain, "evaluation, crop": middle, "training, crop and colours": varied}


def without_draft(read: Callable[[MediaLocation, int], object]) -> Callable[[MediaLocation, int], object]:
    """Read pictures at their full size, as a loader that knows nothing of JPEG's blocks does."""
    from PIL import JpegImagePlugin

    def reading(location: MediaLocation, number: int) -> object:
        draft = JpegImagePlugin.JpegImageFile.draft
        JpegImagePlugin.JpegImageFile.draft = lambda self, mode, size: None  # noqa: ARG005
        try:
            return read(location, number)
        finally:
            JpegImagePlugin.JpegImageFile.draft = draft

    return reading


def main() -> None:
    """Measure CPU seconds of this process, variants in turn, and print medians over the rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU seconds per variant and size")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        locations = make_jpegs(Path(folder), args.pictures)
        kilobytes = statistics.mean(location.path.stat().st_size for location in locations) / 1000
        print(
            f"{len(locations)} JPEGs of {WIDTH} x {HEIGHT}, {kilobytes:.0f} kB each; pictures per CPU second"
        )
        for size in SIZES:
            reads = variants(size)
            pairs = {name: (read, without_draft(read)) for name, read in reads.items()}
            taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
            while len(locations) * sum(map(sum, taken[next(iter(taken))])) < 2 * args.seconds:
                for name, both in pairs.items():
                    for read, seconds in zip(both, taken[name], strict=True):
                        began = time.process_time()
                        for number, location in enumerate(locations):
                            read(location, number)
                        seconds.append((time.process_time() - began) / len(locations))
            for name, (drafted, whole) in taken.items():
                ratio = statistics.median(w / d for d, w in zip(drafted, whole, strict=True))
                speeds = (1 / statistics.median(drafted), 1 / statistics.median(whole))
                figures = f"with draft {speeds[0]:.0f} | without {speeds[1]:.0f} | {ratio:.2f} x"
                print(f"{size} px | {name} | {figures}", flush=True)


if __name__ == "__main__":
    main()
