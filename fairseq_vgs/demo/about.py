"""What the page says about the model, so that nobody takes it for more than it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairseq_vgs.checkpoints.exports.load import TRAINING_DATA
from fairseq_vgs.checkpoints.load import section
from fairseq_vgs.demo.collection import Collection, SearchModel
from fairseq_vgs.demo.show import several
from fairseq_vgs.manifest.summary import training_data

FEW_CAPTIONS = 50_000
ONE_VOICE_CORPORA = ("scenes", "manifests/rebuild_embedded.py")
"""What ``summary.json`` says of the quickstart's scenes and the embedded data."""
ONE_VOICE = (
    "This model knows one voice, which names things in Russian. It shows that the chain works, and says "
    "nothing about natural speech: what you say yourself is far from all that it has heard."
)
FEW = (
    "This model has heard little speech: expect it to fail on voices, words and things that were not in its "
    "training."
)
WITHOUT_PICTURES = (
    "This model was trained by self-supervision alone and has seen no pictures: its answers are random."
)
UNKNOWN = "The data that this model was trained on are not here, so this page cannot say what it has heard."


def facts(model: SearchModel, collection: Collection) -> list[str]:
    """List what the model is and what it searches."""
    checkpoint = model.checkpoint
    path = checkpoint.path
    found = [f"Model {_name(path)} ({checkpoint.n_updates:,} updates)"]
    if "captions" in (data := _training_data(model)):
        heard, seen = several(data["captions"], "caption"), several(data["images"], "picture")
        found.append(f"trained on {heard} of {seen}")
    searched = several(len(collection.pictures), "picture")
    if n_captions := len(collection.captions):
        searched += f" and {several(n_captions, 'caption')}"
    found.append(f"searches {searched} of {collection.title}")
    return [*found, f"score: {'cosine' if model.measure == 'cosine' else 'dot product'}"]


def _name(path: Path) -> str:
    """Return the end of the path to a run or an exported folder, by its file, else the file's name."""
    if path.suffix == ".safetensors":
        folder = path.parent
    elif path.parent.name == "checkpoints":
        folder = path.parent.parent
    else:
        return path.name
    return "/".join(folder.absolute().parts[-2:])


def caveat(model: SearchModel) -> str:
    """Say what not to expect; empty for a model with much training data."""
    config = model.checkpoint.config
    alphas = section(config, "criterion").get("alpha_values")
    if alphas and not any(alphas) and not section(config, "checkpoint").get("finetune_from_model"):
        return WITHOUT_PICTURES
    data = _training_data(model)
    if not data:
        return UNKNOWN
    if data.get("corpus") in ONE_VOICE_CORPORA:
        return ONE_VOICE
    return FEW if int(data.get("captions", FEW_CAPTIONS)) < FEW_CAPTIONS else ""


def _training_data(model: SearchModel) -> dict[str, Any]:
    """Return what is known of the training's data: from their folder, else from an export's record."""
    config = model.checkpoint.config
    return training_data(config) or section(config, TRAINING_DATA)
