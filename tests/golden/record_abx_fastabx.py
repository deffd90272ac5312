"""Records what fastabx scores on drawn features: run in an environment of its own (Python >= 3.12).

pip install fastabx==0.9.0
PYTHONPATH=tests python tests/golden/record_abx_fastabx.py
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from fastabx import zerospeech_abx
from support.abx_draw import draw, write_items

MATERIAL = {"seed": 11, "n_tokens": 240, "n_phones": 5, "n_speakers": 4, "n_dims": 12, "max_frames": 9}
CASES = [
    {"speaker": "within", "context": "within", "distance": "angular"},
    {"speaker": "within", "context": "any", "distance": "angular"},
    {"speaker": "across", "context": "within", "distance": "angular"},
    {"speaker": "across", "context": "any", "distance": "angular"},
    {"speaker": "within", "context": "within", "distance": "euclidean"},
    {"speaker": "across", "context": "any", "distance": "kl_symmetric"},
    {"speaker": "across", "context": "within", "distance": "identical"},
]


def features_for(frames: np.ndarray, distance: str) -> torch.Tensor:
    """Make of drawn frames what the distance is defined on."""
    if distance == "kl_symmetric":
        return torch.from_numpy(frames).softmax(-1).float()
    if distance == "identical":
        return torch.from_numpy(frames.argmax(-1, keepdims=True)).float()
    return torch.from_numpy(frames).float()


def main() -> None:
    """Score all cases and write the figures."""
    rows, drawn = draw(**MATERIAL)
    figures = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        items = write_items(folder / "drawn.item", rows)
        for case in CASES:
            for file, frames in drawn.items():
                torch.save(features_for(frames, case["distance"]), folder / f"{file}.pt")
            error = zerospeech_abx(
                items, folder, frequency=50, max_size_group=None, max_x_across=None, progress=False, **case
            )
            figures.append({**case, "error": error})
    versions = {"python": platform.python_version()}
    versions.update({package: version(package) for package in ("fastabx", "torchdtw", "torch")})
    content = {"versions": versions, "material": MATERIAL, "figures": figures}
    Path(__file__).with_name("abx_fastabx.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
