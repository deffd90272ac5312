"""Fix official fairseq 0.12.2 for current torch and numpy when the plugin is imported.

Each fix replaces one name in one fairseq module, does nothing where it is not needed, and may be applied
twice. The other half of the compatibility layer, ``fairseq_vgs_compat``, must run before fairseq is imported
and therefore lives outside.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from fairseq_vgs.compat.building import TooLargeError, refuse_absurd_numbers, within_limits_of
from fairseq_vgs.compat.checkpoint_files import (
    allow_checkpoint_classes,
    last_loaded,
    verify_checkpoints,
    write_whole_checkpoints,
)
from fairseq_vgs.compat.runs import end_faults_in_one_line, look_after_runs
from fairseq_vgs.files.faults import FaultError, fault

logger = logging.getLogger(__name__)

_PRETRAINED_TASKS = ("audio_pretraining", "vgs_pretraining")
_PRETRAINED_MODELS = ("wav2vec2", "vgs_wav2vec2")


def apply() -> list[str]:
    """Apply every fix that is needed here; return their names."""
    fixes: tuple[Callable[[], bool], ...] = (
        allow_checkpoint_classes,
        evaluate_settings_as_data,
        refuse_other_pretrained_models,
        restore_numpy_names,
        gather_lists_without_cuda,
        wrap_cpu_models,
        fuse_updates_of_weights,
        explain_second_copy,
        keep_existing_paths_whole,
        write_whole_checkpoints,
        verify_checkpoints,
        look_after_runs,
        end_faults_in_one_line,
    )
    applied = [fix.__name__ for fix in fixes if fix()]
    logger.debug("fairseq fixes applied: %s", ", ".join(applied) or "none")
    return applied


def evaluate_settings_as_data() -> bool:
    """Let no module of fairseq run a setting as code: what it calls ``eval`` reads data.

    Such settings come with checkpoints, for any model, task or optimizer that they name, so Python's ``eval``
    would undo the check in ``allow_checkpoint_classes``.
    """
    from fairseq.models.wav2vec import wav2vec2

    from fairseq_vgs.modules.conv_spec import parse_conv_layers
    from fairseq_vgs.modules.expressions import evaluate

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("fairseq", "fairseq_cli"):
            vars(module)["eval"] = evaluate
    wav2vec2.eval = lambda text: list(parse_conv_layers(text))
    return True


def refuse_other_pretrained_models() -> bool:
    """Let ``model.w2v_path`` name wav2vec 2.0 alone, fairseq's or ours, before anything is built from it."""
    from fairseq.models.wav2vec import wav2vec2_asr

    original = wav2vec2_asr.tasks
    if isinstance(original, types.SimpleNamespace):
        return False

    def setup_task(cfg: Any, **kwargs: Any) -> Any:
        _refuse_other_than("task", cfg, _PRETRAINED_TASKS)
        task = original.setup_task(cfg, **kwargs)
        build = task.build_model

        def build_model(cfg: Any, *args: Any, **kwargs: Any) -> Any:
            _refuse_other_than("model", cfg, _PRETRAINED_MODELS)
            try:
                refuse_absurd_numbers(OmegaConf.to_container(cfg))
                with within_limits_of(*last_loaded):
                    return build(cfg, *args, **kwargs)
            except TooLargeError as error:
                message = f"its model settings must build a model: {error}; give another checkpoint"
                raise FaultError.at("model.w2v_path", message, "checkpoint.settings") from error

        task.build_model = build_model
        return task

    wav2vec2_asr.tasks = types.SimpleNamespace(setup_task=setup_task)
    return True


def _refuse_other_than(section: str, cfg: Any, names: tuple[str, ...]) -> None:
    name = str(cfg.get("_name"))
    if name not in names:
        expected = f"must be a checkpoint of the {section} {' or '.join(names)}"
        step = "give a checkpoint of pre-training"
        raise FaultError(fault("model.w2v_path", expected, name, step, code="checkpoint.kind"))


class _NumpyWithFormerNames:
    """The numpy that fairseq knows: with ``np.int`` and ``np.percentile(interpolation=...)``."""

    int = int

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def percentile(values: Any, q: Any, *args: Any, interpolation: str = "linear", **kwargs: Any) -> Any:
        kwargs.setdefault("method", interpolation)
        return np.percentile(values, q, *args, **kwargs)


def restore_numpy_names() -> bool:
    """Restore the numpy names that ``no_mask_overlap`` and ``num_batch_buckets`` need.

    Only that module's view of numpy changes: other packages probe numpy for these names to tell its versions
    apart.
    """
    from fairseq.data import data_utils

    if hasattr(np, "int") and "interpolation" in inspect.signature(np.percentile).parameters:
        return False
    data_utils.np = _NumpyWithFormerNames()
    return True


def gather_lists_without_cuda() -> bool:
    """Let ``all_gather_list`` work without CUDA, where it would allocate CUDA and pinned buffers.

    It keeps its buffers as attributes of the function of that name, so the ones it needs are put there
    beforehand.
    """
    from fairseq.distributed import utils as distributed_utils

    if torch.cuda.is_available():
        return False
    original = distributed_utils.all_gather_list
    if hasattr(original, "__wrapped__"):
        return False

    @functools.wraps(original)
    def all_gather_list(data: Any, group: Any = None, max_size: int = 16384) -> Any:
        group = distributed_utils.get_global_group() if group is None else group
        world_size = distributed_utils.get_world_size(group=group)
        buffers = vars(distributed_utils.all_gather_list)
        buffers["_buffer"] = torch.empty(max_size * world_size, dtype=torch.uint8)
        buffers["_cpu_buffer"] = torch.empty(max_size, dtype=torch.uint8)
        return original(data, group=group, max_size=max_size)

    distributed_utils.all_gather_list = all_gather_list
    return True


class _DistributedDataParallel(nn.parallel.DistributedDataParallel):
    """torch's class without the ``device_ids`` that fairseq passes, and torch refuses, for a model on CPU."""

    def __init__(self, module: nn.Module, **kwargs: Any) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            kwargs.update(device_ids=None, output_device=None)
        super().__init__(module, **kwargs)


def wrap_cpu_models() -> bool:
    """Let ``ddp_backend=pytorch_ddp`` train on CPUs."""
    from fairseq.models import distributed_fairseq_model

    distributed_fairseq_model.DistributedDataParallel = _DistributedDataParallel
    return True


def fuse_updates_of_weights() -> bool:
    """Run Adam, and the clipping before it, in a few kernels on a GPU."""
    from fairseq_vgs.compat.fused_updates import fuse_updates

    return fuse_updates()


def explain_second_copy() -> bool:
    """Accept ``common.user_dir`` for a plugin that is already imported, and explain a second copy of it.

    fairseq compares the two paths as text, so a link would look like another copy, and its advice for a real
    second copy (rename the folder) cannot work: a process registers the plugin's classes once.
    """
    from fairseq import utils

    original = utils.import_user_module
    if hasattr(original, "__wrapped__"):
        return False
    imported = Path(__file__).resolve().parents[1]

    @functools.wraps(original)
    def import_user_module(args: Any) -> None:
        user_dir = getattr(args, "user_dir", None)
        named = Path(user_dir).resolve() if user_dir else None
        if named is None or named.name != imported.name or not named.is_dir():
            original(args)
        elif named != imported:
            step = "leave common.user_dir out, or start a process that does not import fairseq_vgs first"
            expected = f"must be the imported copy {imported}"
            raise FaultError(fault("common.user_dir", expected, str(named), step, code="package.duplicate"))

    utils.import_user_module = import_user_module
    return True


def keep_existing_paths_whole() -> bool:
    """Take a data folder that exists for one, whatever its name; fairseq divides ``task.data`` at colons."""
    from fairseq import utils

    original = utils.split_paths
    if hasattr(original, "__wrapped__"):
        return False

    @functools.wraps(original)
    def split_paths(paths: str, *args: Any, **kwargs: Any) -> list[str]:
        return [paths] if Path(paths).exists() else list(original(paths, *args, **kwargs))

    utils.split_paths = split_paths
    return True
