"""What the page says about the model, so that nobody takes it for more than it is."""

from __future__ import annotations

from pathlib import Path

from fairseq_vgs.checkpoints.load import section
from fairseq_vgs.configs import embedded_data
from fairseq_vgs.demo.collection import Collection, SearchModel
from fairseq_vgs.demo.show import several
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.summary import read_summary
from fairseq_vgs.manifest.tables import read_pairs

FEW_CAPTIONS = 50_000
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
    if (counts := _counts(model)) is not None:
        n_captions, n_pictures = counts
        found.append(f"trained on {several(n_captions, 'caption')} of {several(n_pictures, 'picture')}")
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
    if (folder := _training_folder(model)) is None:
        return UNKNOWN
    if _is(folder, embedded_data()) or _summary(folder).get("corpus") == "scenes":
        return ONE_VOICE
    counts = _counts(model)
    return FEW if counts is not None and counts[0] < FEW_CAPTIONS else ""


def _counts(model: SearchModel) -> tuple[int, int] | None:
    """Return how many captions and pictures the training had."""
    folder, split = (
        _training_folder(model),
        section(model.checkpoint.config, "dataset").get("train_subset", "train"),
    )
    if folder is None:
        return None
    try:
        pairs = read_pairs(ManifestFolder(folder).pairs(str(split)))
    except FaultError:
        return None
    return len(pairs), len({pair.image_id for pair in pairs})


def _training_folder(model: SearchModel) -> Path | None:
    data = section(model.checkpoint.config, "task").get("data")
    return Path(data) if data and Path(data).is_dir() else None


def _summary(folder: Path) -> dict[str, object]:
    try:
        return read_summary(folder)
    except FaultError:
        return {}


def _is(folder: Path, other: Path) -> bool:
    return other.is_dir() and folder.samefile(other)
