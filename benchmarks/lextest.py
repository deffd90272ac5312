"""Score the log-mel examples of CDI-Lextest and COCO-Lextest: their README files state the expected results.

Clone github.com/SPEECHCOG/CDI_lextest and COCO_lextest, then

    python benchmarks/lextest.py CDI_lextest/demodata/CDI_embs_uttlevel      # 17.10 %, in seconds
    python benchmarks/lextest.py CDI_lextest/demodata/CDI_embs_frame         # 47.08 %, in 5 minutes
    python benchmarks/lextest.py COCO_lextest/demodata/COCO_embs_uttlevel    # 0.208
    python benchmarks/lextest.py COCO_lextest/demodata/COCO_embs_frame       # 0.568, in 8 minutes

Frames of NaN, which the examples have in pauses, are skipped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from fairseq_vgs.metrics.lexical import frame_recall, vector_recall


def main() -> None:
    """Score a folder of ``WORD_TOKEN.txt``, a line for each frame."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    paths = sorted(args.folder.glob("*.txt"), key=lambda path: path.name)
    words = [path.stem.rpartition("_")[0].lower() for path in paths]
    tokens = [torch.from_numpy(np.loadtxt(path, ndmin=2)) for path in paths]
    start = time.process_time()
    if all(len(token) == 1 for token in tokens):
        result = vector_recall(torch.cat(tokens), words)
    else:
        result = frame_recall(tokens, words, device=args.device)
    seconds = time.process_time() - start
    print(f"{len(paths)} tokens of {len(set(words))} words in {seconds:.0f} s of CPU time")
    print(f"recall {100 * result.overall:.4f} %, chance {100 * result.chance:.4f} %")


if __name__ == "__main__":
    main()
