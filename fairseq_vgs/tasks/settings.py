"""The task's settings: refuse impossible ones, fill in paths and derived settings."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from fairseq_vgs.data.captions import units_file
from fairseq_vgs.data.masking import MIN_FRAMES, MaskOptions
from fairseq_vgs.data.paired_dataset import VgsDatasetOptions
from fairseq_vgs.data.pictures import Augmentation
from fairseq_vgs.files.faults import Fault
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.summary import read_summary, region_recipe
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.modules import IMAGE_ENCODERS
from fairseq_vgs.modules.conv_spec import n_frames, parse_conv_layers
from fairseq_vgs.settings import bad_setting, find_entry

logger = logging.getLogger(__name__)

_CHOICES = {
    "crop": ("start", "random"),
    "similarity": ("dot", "cosine"),
    "image_fit": ("squeeze", "crop"),
    "caption_input": ("speech", "text"),
}
_RANGES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    ("a positive number", lambda number: number >= 1, ("max_regions", "mask_length")),
    ("2 or more", lambda number: number >= 2, ("probe_utterances",)),
    (
        "0 or more",
        lambda number: number >= 0,
        ("seed", "mask_min_space", "unpaired_ratio", "probe_interval", "train_pairs", "length_buckets"),
    ),
    ("0 or more and below 1", lambda share: 0 <= share < 1, ("image_jitter", "length_noise", "mask_dropout")),
    ("above 0, at most 1", lambda share: 0 < share <= 1, ("image_crop_scale",)),
    ("a share between 0 and 1", lambda share: 0 <= share <= 1, ("mask_prob",)),
)


def check_config(cfg: Any) -> None:
    """Refuse impossible settings.

    Raises:
        FaultError: ``setting.value``, at the setting.
    """
    layers = parse_conv_layers(cfg.conv_feature_layers)

    def expect(condition: bool, key: str, expected: str) -> None:
        if not condition:
            raise bad_setting(f"task.{key}", expected, getattr(cfg, key))

    for key in ("max_seconds", "valid_max_seconds"):
        frames = n_frames(round(getattr(cfg, key) * SAMPLE_RATE), layers)
        expect(frames >= MIN_FRAMES, key, f"at least {MIN_FRAMES} frames of model.conv_feature_layers")
    expect(cfg.image_input in (None, "regions", "pictures"), "image_input", "regions or pictures")
    expect(cfg.image_size is None or cfg.image_size >= 1, "image_size", "a positive number")
    for key, choices in _CHOICES.items():
        expect(str(getattr(cfg, key)) in choices, key, " or ".join(choices))
    for expected, in_range, keys in _RANGES:
        for key in keys:
            expect(in_range(getattr(cfg, key)), key, expected)
    static = str(cfg.mask_selection) == "static" or cfg.mask_prob == 0
    expect(static, "mask_selection", "static, the only selection that masks repeat exactly for")
    paired = cfg.unpaired_ratio == 0 or cfg.unpaired_data is not None
    expect(paired, "unpaired_data", "a folder of audio lists where task.unpaired_ratio is set")
    if cfg.caption_input == "text":
        for key in ("unpaired_ratio", "probe_interval"):
            expect(getattr(cfg, key) == 0, key, "0 with model.caption_encoder=text, which has no SSL loss")
    if cfg.unpaired_data is not None and cfg.unpaired_ratio == 0:
        logger.warning("task.unpaired_data is not used while task.unpaired_ratio is 0")


def missing_files(cfg: Any, folder: ManifestFolder) -> list[Fault]:
    """Return a fault for each file that training needs and does not find."""
    step = "build it with fairseq-vgs prepare, or correct task.data"
    if not folder.path.is_dir():
        return [Fault(str(folder.path), f"task.data is not a folder; {step}", "folder.missing")]
    needed = [folder.audio_list(cfg.train_subset), folder.pairs(cfg.train_subset), folder.images]
    faults = _missing(needed, f"file is missing; {step}")
    if str(cfg.image_input) == "regions":
        step = (
            f"compute regions with fairseq-vgs prepare regions efficientnet {shlex.quote(str(folder.path))}, "
            "or let the model "
            "read pictures: model.image_encoder=patches, or model=pictures "
            "model.image_backbone=FOLDER (a local Hugging Face folder)"
        )
        faults += _missing((folder.regions, folder.region_features), f"file is missing; {step}")
    if cfg.caption_input == "text":
        step = "build them with fairseq-vgs prepare text, or correct task.text_units"
        faults += _missing([units_file(folder, cfg.text_units)], f"text units are missing; {step}")
    if cfg.unpaired_ratio and cfg.unpaired_data is not None:
        path = ManifestFolder(Path(cfg.unpaired_data)).audio_list(cfg.train_subset)
        faults += _missing([path], "audio list is missing; correct task.unpaired_data")
    return faults


def refuse_padding_that_counts(cfg: Any, model_cfg: Any) -> None:
    """Refuse buckets for a model whose results depend on how far a batch is padded.

    Raises:
        FaultError: ``setting.conflict``.
    """
    padding = str(getattr(model_cfg, "padding", "exact"))
    if cfg.length_buckets and padding != "exact":
        expected = f"0 with model.padding={padding}, with which padding has influence"
        step = "set model.padding=exact"
        raise bad_setting("task.length_buckets", expected, cfg.length_buckets, step, code="setting.conflict")


def _missing(paths: Iterable[Path], message: str) -> list[Fault]:
    return [Fault(str(path), message, "file.missing") for path in paths if not path.is_file()]


def dataset_options(cfg: Any, *, training: bool) -> VgsDatasetOptions:
    """Return how a split's items are made and batched."""
    seconds = cfg.max_seconds if training else cfg.valid_max_seconds
    mask = MaskOptions(
        prob=cfg.mask_prob,
        length=cfg.mask_length,
        no_overlap=cfg.no_mask_overlap,
        min_space=cfg.mask_min_space,
        dropout=cfg.mask_dropout,
    )
    augmentation = Augmentation(cfg.image_crop_scale, cfg.image_flip, cfg.image_jitter)
    return VgsDatasetOptions(
        layers=parse_conv_layers(cfg.conv_feature_layers),
        max_samples=round(seconds * SAMPLE_RATE),
        pad_to_max=cfg.pad_to_max,
        length_buckets=cfg.length_buckets,
        random_crop=training and str(cfg.crop) == "random",
        normalize=cfg.normalize,
        mask=mask if mask.prob > 0 else None,
        image_size=cfg.image_size or VgsDatasetOptions.image_size,  # null: no pictures
        image_fit=str(cfg.image_fit),
        augmentation=augmentation if training and augmentation != Augmentation() else None,
        seed=cfg.seed,
        training=training,
        length_noise=cfg.length_noise,
        unpaired_ratio=cfg.unpaired_ratio,
        skip_bad=cfg.skip_bad,
    )


def described_images(cfg: Any, folder: ManifestFolder) -> dict[str, Any]:
    """Return how the images that a task reads were made, as plain data: all that embedding others needs.

    Of regions this is what ``summary.json`` says of how they were made.

    Raises:
        FaultError: ``summary.json`` cannot be read.
    """
    if str(cfg.image_input) != "regions":
        return {"reads": "pictures", "size": cfg.image_size, "fit": str(cfg.image_fit)}
    return {"reads": "regions", **region_recipe(read_summary(folder.path))}


def resolve_from_launch(path: str | Path) -> Path:
    """Resolve a path against the directory in which the command was started.

    Hydra knows that directory in the process it started; ranks that fairseq spawns find it in the shell's
    ``PWD``. A path that exists in neither is resolved against the first.
    """
    path = Path(path).expanduser()
    if path.is_absolute():
        return path
    candidates = [folder / path for folder in _launch_directories()]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])


def make_paths_absolute(cfg: Any, keys: Iterable[str]) -> None:
    """Resolve paths, unless null, in the run's configuration too, where fairseq looks up ``task.data``."""
    for key in keys:
        if getattr(cfg, key) is not None:
            _write(cfg, key, str(resolve_from_launch(getattr(cfg, key))))


def follow_image_encoder(cfg: Any) -> None:
    """Set a null ``task.image_input`` to what ``model.image_encoder`` reads, for checkpoints too.

    Raises:
        FaultError: ``setting.choice``: no encoder has that name.
    """
    if cfg.image_input is None:
        run_cfg = _run_config(cfg)
        name = None if run_cfg is None else OmegaConf.select(run_cfg, "model.image_encoder")
        _write(cfg, "image_input", find_entry(IMAGE_ENCODERS, "model.image_encoder", name or "regions").reads)


def _write(cfg: Any, key: str, value: Any) -> None:
    setattr(cfg, key, value)
    run_cfg = _run_config(cfg)
    if run_cfg is not None and isinstance(run_cfg.get("task"), DictConfig):
        with open_dict(run_cfg.task):  # it need not list derived settings
            run_cfg.task[key] = value


def _run_config(cfg: Any) -> DictConfig | None:
    """Return the run's configuration, which contains the task's; None if the task's has no parent."""
    parent = cfg._get_parent() if isinstance(cfg, DictConfig) else None
    return parent if isinstance(parent, DictConfig) else None


def _launch_directories() -> list[Path]:
    of_hydra = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else None
    return [Path(place) for place in (of_hydra, os.environ.get("PWD"), Path.cwd()) if place]
