"""Cooperation probes: do SSL and VGS pull the shared layers the same way, and how far have layers moved?

Every ``task.probe_interval`` updates the same few utterances of the validation split are measured, with the
same masks, negatives and noise. A copy of the model with separate random numbers is used, so a run with
probes has exactly the losses of a run without. Both gradients are measured whatever the loss weights are.
A probe takes about as long as two updates with as many utterances, and memory for a second copy of the model.

Every rank measures the gradients of the same utterances, and VGS contrasts these pairs only (but batch
normalisation in the speech head calls its collectives); the first rank compares the frames and writes.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq import utils
from torch import Tensor

from fairseq_vgs.data.paired_dataset import VgsDataset
from fairseq_vgs.files.atomic import atomic_write
from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.losses import linear_cka
from fairseq_vgs.settings import bad_setting
from fairseq_vgs.tasks.history import JsonLines, finite_or_none, is_first_rank
from fairseq_vgs.tasks.probe_measures import detached_copy, gradient_agreements, layer_frames, probe_batch
from fairseq_vgs.tasks.updates import separate_random_numbers

logger = logging.getLogger(__name__)

REFERENCE_NAME = "probe_reference.npz"
_UTTERANCES = "utterances"
_SEED = 0  # the same for all runs, which makes their probes comparable


class CooperationProbes:
    """Measures and writes a probe every ``task.probe_interval`` updates; never if that is 0.

    The frames at the start of the phase (its update 0, after weights were loaded) are saved next to the probe
    file, so a resumed run is compared with the same frames. The task's data sets are filled later; the first
    one that is not for training is measured.
    """

    def __init__(self, cfg: Any, datasets: Mapping[str, VgsDataset]) -> None:
        self.interval = int(cfg.probe_interval)
        self._cfg = cfg
        self._datasets = datasets
        self._records = JsonLines(Path(cfg.probe_file))
        self._reference = Path(cfg.probe_file).with_name(REFERENCE_NAME)
        self._criterion: Any = None
        self._sample: dict[str, Any] = {}
        self._utterances: tuple[str, ...] = ()

    def check(self, criterion: Any) -> None:
        """Refuse a criterion without both losses.

        Raises:
            FaultError: ``setting.value``: probes are on, and the criterion has a single loss.
        """
        if self.interval and not hasattr(criterion, "separate_losses"):
            expected = "0 with a criterion of a single loss"
            step = "set criterion=vgs_multitask (criterion.alpha_values=[1.0] for VGS alone)"
            raise bad_setting("task.probe_interval", expected, self.interval, step)

    def begin_update(self, update: int, model: Any, criterion: Any) -> None:
        """Prepare the probes at a process's first update; measure if ``update``, the number done, is 0.

        Raises:
            FaultError: the run was started with other utterances.
        """
        if not self.interval or self._criterion is not None:
            return
        self._criterion = criterion
        split = next(name for name in self._datasets if name != str(self._cfg.train_subset))
        dataset = self._datasets[split]
        # a separate data set, whose masks do not depend on the run's seed
        dataset = VgsDataset(dataset.table, replace(dataset.options, seed=_SEED), regions=dataset.regions)
        self._sample, self._utterances = probe_batch(dataset, int(self._cfg.probe_utterances))
        logger.info("cooperation probes: %d utterances of split %r", len(self._utterances), split)
        if update == 0:
            self._measure(update, model, begins=True)
        elif is_first_rank():
            self._check_reference()

    def end_update(self, update: int, model: Any) -> None:
        """Measure if it is time; ``update`` includes the one just done."""
        if self.interval and update % self.interval == 0:
            self._measure(update, model)

    def _measure(self, update: int, model: Any, *, begins: bool = False) -> None:
        with separate_random_numbers(_SEED):
            probed = detached_copy(_innermost(model))
            probed.set_num_updates(update)  # the quantizer's temperature
            device = next(probed.parameters()).device
            sample = utils.apply_to_sample(lambda tensor: tensor.to(device), self._sample)
            frames = layer_frames(probed, sample) if is_first_rank() else {}
            agreements = gradient_agreements(probed, self._criterion, sample)
        if not is_first_rank():
            return
        if begins:
            self._write_reference(frames)
        columns = {
            key: {name: finite_or_none(float(values[i])) for name, values in agreements.items()}
            for i, key in enumerate(("gradient_cosine", "gradient_norm_ssl", "gradient_norm_vgs"))
        }
        self._records.append({"update": update, **columns, "cka": self._drift(frames)})

    def _drift(self, frames: Mapping[str, Tensor]) -> dict[str, float | None]:
        if not self._reference.is_file():
            return {}
        with np.load(self._reference, allow_pickle=False) as reference:
            return {
                name: finite_or_none(float(linear_cka(torch.from_numpy(reference[name]).to(x.device), x)))
                for name, x in frames.items()
            }

    def _write_reference(self, frames: Mapping[str, Tensor]) -> None:
        arrays: dict[str, Any] = {name: x.cpu().numpy() for name, x in frames.items()}
        arrays[_UTTERANCES] = np.array(self._utterances)  # text of fixed width: no pickle
        with atomic_write(self._reference, force=True, mode="wb") as file:
            np.savez(file, **arrays)

    def _check_reference(self) -> None:
        """Refuse to compare a resumed run with other utterances than it started with."""
        if not self._reference.is_file():
            logger.warning(
                "%s: missing: this run started without probes, so representation drift is not measured",
                self._reference,
            )
            return
        try:
            with np.load(self._reference, allow_pickle=False) as reference:
                began_with = tuple(reference[_UTTERANCES].tolist())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            expected, step = "expected the frames at the run's start", "remove it to continue without drift"
            found = fault(str(self._reference), expected, error, step, code="file.unreadable")
            raise FaultError(found) from error
        if began_with != self._utterances:
            n_chosen, got = len(self._utterances), f"{len(began_with)} others"
            expected = (
                f"expected the {n_chosen} utterances that task.data and task.probe_utterances choose now"
            )
            step = "restore the run's first settings, or remove the file to continue without drift"
            raise FaultError(fault(str(self._reference), expected, got, step, code="file.mismatch"))


def _innermost(model: Any) -> Any:
    """Unwrap distributed wrappers, whose hooks must not fire."""
    while hasattr(model, "module"):
        model = model.module
    return model
