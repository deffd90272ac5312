"""A trained model as MTEB, the benchmark of embeddings, evaluates it: spoken captions and pictures.

Shapes: N items, E embedding dims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fairseq_vgs.api.load import load
from fairseq_vgs.api.model import Model
from fairseq_vgs.api.speech import as_numpy
from fairseq_vgs.arrays import F32
from fairseq_vgs.checkpoints.places import EXPORTED_WEIGHTS
from fairseq_vgs.device import AUTO
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.losses.similarity import pairwise_similarity
from fairseq_vgs.media.rates import SAMPLE_RATE

ORGANIZATION = "fairseq_vgs"
_MODALITIES = ("audio", "image", "text", "video")
_ROWS_AT_ONCE = 1024
_REVISION_DIGITS = 12


class MtebEncoder:
    """An encoder of MTEB's protocol: recordings and pictures, embedded as evaluation embeds them.

    >>> import mteb
    >>> import fairseq_vgs as vgs
    >>> encoder = vgs.MtebEncoder("run", languages=["eng-Latn"], license="mit")
    >>> encoder.mteb_model_meta.name, encoder.mteb_model_meta.modalities
    ('fairseq_vgs/run', ['audio', 'image'])
    >>> results = mteb.evaluate(encoder, mteb.get_tasks(tasks=[]), cache=None)  # doctest: +SKIP

    One second of noise and one picture are embedded at once, so that a model which cannot do that is refused
    before anything is downloaded.

    Attributes:
        model: the model.
        mteb_model_meta: ``mteb.ModelMeta``; its revision is the beginning of the weights' SHA-256, by which
            MTEB keeps the results of two states of a model apart.

    Args:
        model: what ``fairseq_vgs.load`` takes, or a loaded model.
        device: as in ``load``; of a loaded model, its own.
        name: ``organization/name`` under which MTEB keeps results; ``fairseq_vgs/`` and the name of the run
            or folder by default.
        regions: as in ``load``.
        facts: fields of ``mteb.ModelMeta`` that no file tells, such as ``languages``, ``license`` and
            ``training_datasets``; unknown until given.

    Raises:
        FaultError: ``package.missing``, MTEB; ``mteb.regions``, the model reads regions, and nothing here
            makes them; others as ``load``.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        device: str = AUTO,
        name: str | None = None,
        regions: str | Path | tuple[int, int] | None = None,
        **facts: Any,
    ) -> None:
        optional_package("mteb", "mteb", place="MtebEncoder")
        self.model = model if isinstance(model, Model) else load(model, device, regions=regions)
        _try(self.model)
        given = {} if regions is None else {"experiment_kwargs": {"regions": str(regions)}}
        self.mteb_model_meta: Any = _meta(self.model, name or _name(self.model.path), {**given, **facts})

    def encode(self, inputs: Iterable[Mapping[str, Any]], **given: Any) -> F32:
        """Embed the recordings (``audio``) or pictures (``image``) of batches.

        Args:
            inputs: batches of MTEB's loader; a recording has ``array`` and ``sampling_rate``, or the
                ``bytes`` or ``path`` of a file; pictures are Pillow's.
            given: the task, split, prompt and batch size, none of which matters.

        Returns:
            float32[N, E].

        Raises:
            FaultError: ``mteb.modality``: neither recordings nor pictures, or both in one item; an item that
                cannot be used.
        """
        del given
        batches = iter(inputs)
        if (first := next(batches, None)) is None:
            return np.empty((0, self.model.dim), dtype=np.float32)
        kind = _kind(first)
        items = chain.from_iterable(batch[kind] for batch in chain([first], batches))
        if kind == "image":
            return self.model.embed_images(items)
        return self.model.embed_speech(_recordings(items))

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Compare all with all by the model's measure, as ``evaluate retrieval`` does: float32[N1, N2]."""
        rows, columns = _double(embeddings1), _double(embeddings2)
        compared = (
            pairwise_similarity(part, columns, kind=self.model.measure).float()
            for part in rows.split(_ROWS_AT_ONCE)
        )
        return torch.cat(list(compared))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Compare row with row by the model's measure: float32[N]."""
        rows, columns = _double(embeddings1), _double(embeddings2)
        if self.model.measure == "cosine":
            rows, columns = (torch.nn.functional.normalize(side, dim=1) for side in (rows, columns))
        return (rows * columns).sum(dim=1).float()


def _meta(model: Model, name: str, facts: Mapping[str, Any]) -> Any:
    """Return MTEB's description of a model: what the checkpoint tells, and the facts."""
    from mteb.models.model_meta import ModelMeta

    n_parameters = sum(weight.numel() for weight in model.checkpoint.model.parameters())
    known = {
        "loader": None,
        "name": name,
        "revision": sha256_file(model.path)[:_REVISION_DIGITS],
        "n_parameters": n_parameters,
        "memory_usage_mb": n_parameters * 4 / 2**20,
        "embed_dim": model.dim,
        "framework": ["PyTorch"],
        "similarity_fn_name": model.measure,
        "use_instructions": False,
        "modalities": ["audio", "image"],
    }
    unknown = dict.fromkeys(
        (
            "release_date",
            "languages",
            "max_tokens",
            "license",
            "open_weights",
            "public_training_code",
            "public_training_data",
            "training_datasets",
        )
    )
    return ModelMeta(**{**unknown, **known, **facts})


def _name(path: Path) -> str:
    """Return the name of a model by its file: that of the exported folder, run or checkpoint."""
    if path.name == EXPORTED_WEIGHTS:
        name = path.absolute().parent.name
    elif path.absolute().parent.name == "checkpoints":
        name = path.absolute().parents[1].name
    else:
        name = path.stem
    return f"{ORGANIZATION}/{name}"


def _try(model: Model) -> None:
    """Embed noise and a picture.

    Raises:
        FaultError: whatever stands against it.
    """
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    model.embed_speech(0.1 * noise, sampling_rate=SAMPLE_RATE)
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((90, 30, 30), (16, 16, 48, 48))
    try:
        model.embed_images(picture)
    except FaultError as error:
        found = error.faults[0]
        if not found.code.startswith("regions."):
            raise
        step = "give regions=..., or use fairseq-vgs evaluate retrieval with the regions of a data folder"
        message = f"must embed pictures alone, as MTEB gives them, cannot ({found.message}); {step}"
        raise FaultError.at(model.path, message, "mteb.regions") from error


def _kind(batch: Mapping[str, Any]) -> str:
    kinds = [name for name in _MODALITIES if name in batch]
    if kinds not in (["audio"], ["image"]):
        step = "choose tasks of spoken captions and pictures, such as SpokenCOCOA2IRetrieval"
        expected = "items must be recordings (audio) or pictures (image)"
        got = " and ".join(kinds or sorted(batch))
        raise FaultError(fault("MtebEncoder", expected, got, step, code="mteb.modality"))
    return kinds[0]


def _recordings(items: Iterable[Any]) -> Iterator[Any]:
    """Yield recordings as ``embed_speech`` takes them: arrays with their rate, or files."""
    for item in items:
        if not isinstance(item, Mapping) or "array" in item:  # decoders are no mappings, but have these keys
            yield np.asarray(item["array"], dtype=np.float32), int(item["sampling_rate"])
        else:
            yield item["bytes"] or str(item["path"])


def _double(embeddings: Any) -> Tensor:
    return torch.atleast_2d(torch.as_tensor(as_numpy(embeddings))).double()
