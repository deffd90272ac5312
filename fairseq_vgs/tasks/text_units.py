"""The text units of a run (``model.caption_encoder=text``), and writing down which they are."""

from __future__ import annotations

from typing import Any

from fairseq_vgs.data.captions import TextUnits, units_file
from fairseq_vgs.manifest.folder import ManifestFolder


def load_units(cfg: Any, folder: ManifestFolder) -> TextUnits | None:
    """Load the units that a task's settings name; None where captions are speech. Raises FaultError."""
    if str(cfg.caption_input) != "text":
        return None
    return TextUnits(units_file(folder, cfg.text_units))


def name_units(model_cfg: Any, cfg: Any, folder: ManifestFolder) -> None:
    """Write into the settings of a model of text which units it learns from; compare those that are set.

    Args:
        model_cfg: The model's settings.
        cfg: The task's settings.
        folder: The manifest folder.

    Raises:
        FaultError: The units are needed, and cannot be read.
        ValueError: The model's settings are those of other units.
    """
    if str(getattr(model_cfg, "caption_encoder", "speech")) != "text":
        return
    path = units_file(folder, cfg.text_units)
    if model_cfg.text_vocabulary and model_cfg.text_units_sha256 and not path.is_file():
        return  # a checkpoint without its data
    units = TextUnits(path)
    for key, value in (("text_vocabulary", len(units)), ("text_units_sha256", units.sha256)):
        if getattr(model_cfg, key) is None:
            setattr(model_cfg, key, value)
        elif getattr(model_cfg, key) != value:
            raise ValueError(
                f"model.{key}: expected {value}, that of {path}, got {getattr(model_cfg, key)!r}; leave it "
                "null, or name the checkpoint's units with task.text_units"
            )
