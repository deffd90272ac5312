"""Give every run of fairseq a beginning and an end of its own.

fairseq 0.12.2 keeps a run's best score and patience in attributes of functions, where the next job of a sweep
finds them; lets two runs write into one folder; trains one update more when a finished run is started again;
and loses the work since the last checkpoint when a scheduler or the user stops it. ``fairseq_cli.train.main``
looks up the names replaced here when it calls them, after it has imported the plugin.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.nn.utils.weight_norm import WeightNorm

from fairseq_vgs.compat import run_folder
from fairseq_vgs.compat.checkpoint_files import (
    LAST,
    STARTED_FROM,
    last_loaded,
    last_settings,
    mend_checkpoints,
    n_updates,
    remove_partial_checkpoints,
    whole,
)
from fairseq_vgs.compat.run_folder import same_command
from fairseq_vgs.files.faults import Fault, FaultError, fault
from fairseq_vgs.files.provenance import sha256_file

logger = logging.getLogger(__name__)

_WORLD, _PATIENCE, _DUE = "n_processes", "patience", "validation_due"  # in a checkpoint's extra_state
_WORKER_FAULT = re.compile(r"\nfairseq_vgs\.[\w.]+Error: (?P<place>.+?): (?P<message>.+)\Z")


def look_after_runs() -> bool:
    """Lock a run's folder, resume it whole, end it once, and save a checkpoint when it is stopped."""
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    if getattr(checkpoint_utils.load_checkpoint, "wrapped_by_vgs", False):
        return False
    _wrap(checkpoint_utils, load_checkpoint=_begin, save_checkpoint=_save)
    _wrap(Trainer, save_checkpoint=_save_state, train_step=_train_step, valid_step=_valid_step)
    _wrap(Trainer, _build_ema=_build_ema)
    return True


def end_faults_in_one_line() -> bool:
    """Let ``fairseq-hydra-train`` print a fault alone, as Hydra prints its own errors, not a traceback.

    ``HYDRA_FULL_ERROR=1`` shows everything, as ever.
    """
    from hydra._internal import utils as hydra_utils

    names = vars(hydra_utils)
    compact = names.get("CompactHydraException")
    if not isinstance(compact, type):
        return False
    names["CompactHydraException"] = (compact, FaultError)  # used with isinstance alone
    return True


def _wrap(owner: Any, **wrappers: Callable[..., Any]) -> None:
    """Replace functions by wrappers, which get the original as their first argument."""
    for name, wrapper in wrappers.items():
        original = getattr(owner, name)
        if not getattr(original, "wrapped_by_vgs", False):
            wrapped = functools.wraps(original)(_with_original(wrapper, original))
            vars(wrapped)["wrapped_by_vgs"] = True
            setattr(owner, name, wrapped)


def _with_original(wrapper: Callable[..., Any], original: Any) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    return call


def _begin(original: Any, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
    """Begin a run: where fairseq restores the last checkpoint, once all else is built."""
    for module in (sys.modules.get("fairseq_cli.train"), sys.modules["__main__"]):
        if hasattr(module, "validate_and_save") and hasattr(module, "should_stop_early"):
            _wrap(module, train=_train, validate_and_save=_validate_and_save)
    _forget_former_run()
    folder = Path(cfg.save_dir).absolute()
    if trainer.data_parallel_rank == 0 and folder.is_dir():
        run_folder.take(folder)
        remove_partial_checkpoints(folder)
        if cfg.restore_file == LAST and not cfg.no_last_checkpoints and not trainer.checkpoint_suffix:
            mend_checkpoints(folder)
    _any_rank(trainer, value=False)  # the others look for the file once it is there
    extra_state, epoch_itr = original(cfg, trainer, **kwargs)
    resumed = extra_state is not None and last_loaded and last_loaded[0].absolute() == folder / LAST
    if resumed:  # not a checkpoint to start another run from
        _refuse_other_loss(folder, last_settings[0], trainer.cfg)
    if extra_state is not None and trainer.data_parallel_rank == 0:
        vars(trainer)[STARTED_FROM] = _started_from(cfg.finetune_from_model, trainer, extra_state)
    STOP.listen()
    if extra_state is not None and not cfg.reset_dataloader:
        _resume(trainer, extra_state)
    return extra_state, epoch_itr


def _started_from(start: str | None, trainer: Any, extra_state: Mapping[str, Any]) -> Any:
    """Return what identifies the checkpoint that the phase began with; a resumed run knows it already."""
    if start is None or last_loaded != [Path(start)]:
        return extra_state.get(STARTED_FROM)
    made = n_updates({"optimizer_history": trainer._optim_history})
    return {"sha256": sha256_file(Path(start)), "n_updates": made}


_DECIDING = ("criterion.vgs_loss", "criterion.similarity", "model.vgs_forward")
_RECIPE = ("criterion", "model", "optimizer", "lr_scheduler", "optimization")


def _refuse_other_loss(folder: Path, before: Any, now: Any) -> None:
    """Refuse to go on with another VGS loss, as after a change of the defaults; say what goes on as before.

    Raises:
        FaultError: ``run.settings``.
    """
    old, new = _recipe(before), _recipe(now)
    changed = {key: value for key, value in old.items() if key in new and new[key] != value}
    if not any(key in changed for key in _DECIDING):
        return
    known = " ".join(shlex.quote(f"{key}={value}") for key, value in changed.items())
    step = "add these settings to go on with it, or give this run a folder of its own (hydra.run.dir=...)"
    message = f"holds a run with another loss; it began with {known}; {step}"
    raise FaultError.at(folder, message, "run.settings")


def _recipe(cfg: Any) -> dict[str, Any]:
    """Return the settings of losses and optimisation that are set, by key."""
    from omegaconf import OmegaConf

    plain: Any = (
        OmegaConf.to_container(cfg, resolve=True, enum_to_str=True) if OmegaConf.is_config(cfg) else cfg
    )
    sections = {name: plain.get(name) for name in _RECIPE} if isinstance(plain, Mapping) else {}
    return {
        f"{name}.{key}": value
        for name, section in sections.items()
        if isinstance(section, Mapping)
        for key, value in section.items()
        if value is not None
    }


def _functions_with_state() -> list[Any]:
    from fairseq import checkpoint_utils

    module = sys.modules.get("fairseq_cli.train", sys.modules["__main__"])
    early = getattr(module, "should_stop_early", None)
    return [checkpoint_utils.save_checkpoint, *([early] if early is not None else [])]


def _forget_former_run() -> None:
    for function in _functions_with_state():
        for name in ("best", "num_runs"):
            vars(function).pop(name, None)


def _resume(trainer: Any, extra_state: Mapping[str, Any]) -> None:
    """Restore the patience, and say what another number of processes changes."""
    early = _functions_with_state()[-1]
    if isinstance(patience := extra_state.get(_PATIENCE), Mapping) and early.__name__ == "should_stop_early":
        vars(early).update({name: patience[name] for name in ("best", "num_runs") if name in patience})
    STOP.validation_due = bool(extra_state.get(_DUE))
    before, now = extra_state.get(_WORLD), trainer.data_parallel_world_size
    if isinstance(before, int) and before != now:
        logger.warning(
            "resuming with %s a run of %d: dataset.batch_size counts per process, so an update has "
            "%.3g times as many pairs (optimization.update_freq can make up for it), and the rest of the "
            "epoch is divided differently",
            "1 process" if now == 1 else f"{now} processes",
            before,
            now / before,
        )


_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Stop:
    """A signal that asks the run to stop: the update is finished, a checkpoint saved, the process ended.

    The same signal again ends the process as it would have without us.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.in_update = False
        self.saved_at = -1
        self.validation_due = False
        self._pid = os.getpid()

    def listen(self) -> None:
        """Begin a run: forget an earlier signal, and receive SIGINT and SIGTERM where nobody else does."""
        self.signal, self.saved_at, self.validation_due, self._pid = None, -1, False, os.getpid()
        if threading.current_thread() is not threading.main_thread():
            return
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) is default:
                signal.signal(number, self._receive)

    def leave(self) -> None:
        """End a run: signals mean what they meant before it."""
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) == self._receive:
                signal.signal(number, default)

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        chosen = signal.Signals(number)
        if os.getpid() != self._pid:  # a data worker: Ctrl-C is the training process's matter
            if chosen is not signal.SIGINT:
                self._end_by(chosen)
        elif self.signal is chosen:
            self._end_by(chosen)
        else:
            if self.signal is None:
                _acknowledge(chosen)
            self.signal = self.signal or chosen
            # workers that the same signal ends are not missed any more
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            del frame

    def _end_by(self, chosen: signal.Signals) -> None:
        signal.signal(chosen, _DEFAULTS[chosen])
        signal.raise_signal(chosen)


def _acknowledge(chosen: signal.Signals) -> None:
    again = "press Ctrl-C" if chosen is signal.SIGINT else f"send {chosen.name}"
    text = f"{chosen.name}: finishing this update, then saving a checkpoint; {again} again to stop at once"
    # not print or logging: the signal may have come in the middle of a write of theirs
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


STOP = Stop()


class _StoppedInValidation(Exception):  # noqa: N818 - a signal, not an error
    pass


def _any_rank(trainer: Any, *, value: bool) -> bool:
    """Return whether the value is true in any process; wait for all of them."""
    from fairseq.distributed import utils as distributed_utils

    if trainer.data_parallel_world_size == 1:
        return value
    tensor = torch.tensor([float(value)], device=trainer.device)
    distributed_utils.all_reduce(tensor, group=trainer.data_parallel_process_group)
    return bool(tensor.item() > 0)


def _stopped(trainer: Any) -> bool:
    return _any_rank(trainer, value=STOP.signal is not None)


def _train(original: Any, cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> Any:
    """Train an epoch, unless the run is finished; name a data worker's fault as any other."""
    is_over = True
    try:
        if STOP.validation_due:
            _validate_again(cfg, trainer, task, epoch_itr)
        if reason := _finished(cfg, trainer):
            folder = Path(cfg.checkpoint.save_dir).absolute()
            logger.info("the run is finished (%s): nothing to do; %s", reason, folder)
            return [None], True
        losses, should_stop = original(cfg, trainer, task, epoch_itr)
        max_epoch = cfg.optimization.max_epoch or math.inf
        is_over = should_stop or epoch_itr.next_epoch_idx > max_epoch
        if is_over and callable(end_run := getattr(task, "end_run", None)):
            end_run()
        return losses, should_stop
    except _StoppedInValidation:
        _save_and_end(cfg, trainer, epoch_itr)
    except RuntimeError as error:
        if STOP.signal is not None and not STOP.in_update and "DataLoader worker" in str(error):
            _save_and_end(cfg, trainer, epoch_itr)  # the signal ended the workers as well
        if (found := _fault_of_worker(error)) is not None:
            raise FaultError(found) from error
        raise
    finally:
        if is_over:
            STOP.leave()
            run_folder.give_back()


def _validate_again(cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> None:
    """Repeat the validation that a signal interrupted; the restored checkpoint may be the best one."""
    from fairseq import checkpoint_utils
    from fairseq_cli import train

    score = train.validate(cfg, trainer, task, epoch_itr, cfg.dataset.valid_subset.split(","))[0]
    STOP.validation_due = False
    train.should_stop_early(cfg, score)
    kept, state = cfg.checkpoint, vars(checkpoint_utils.save_checkpoint)
    better = max if kept.maximize_best_checkpoint_metric else min
    if score is None or not math.isfinite(score) or better(score, state.get("best", score)) != score:
        return
    state["best"] = score
    last = Path(kept.save_dir) / LAST
    if trainer.data_parallel_rank == 0 and last.exists() and not kept.no_save:
        with whole(last.with_name("checkpoint_best.pt")) as partial:
            shutil.copyfile(last, partial)


def _finished(cfg: Any, trainer: Any) -> str:
    updates, most, patience = trainer.get_num_updates(), cfg.optimization.max_update, cfg.checkpoint.patience
    if most and updates >= most:
        return f"update {updates} of optimization.max_update={most}"
    runs = vars(_functions_with_state()[-1]).get("num_runs", 0)
    if updates and patience > 0 and runs >= patience:
        return f"no better validation in {runs}, checkpoint.patience={patience}"
    return ""


def _fault_of_worker(error: RuntimeError) -> Fault | None:
    """Return the fault that ended a data worker, of which torch passes on the traceback alone."""
    found = _WORKER_FAULT.search(str(error).rstrip())
    return None if found is None else Fault(found["place"], found["message"], "data.worker")


def _validate_and_save(
    original: Any, cfg: Any, trainer: Any, task: Any, epoch_itr: Any, *args: Any, **kwargs: Any
) -> Any:
    """After every update: validate and save where they are due, and end if a signal asked for it."""
    try:
        losses, should_stop = original(cfg, trainer, task, epoch_itr, *args, **kwargs)
    except _StoppedInValidation:
        STOP.validation_due = True
        losses, should_stop = [None], False
    if not should_stop and _stopped(trainer):
        _save_and_end(cfg, trainer, epoch_itr)
    return losses, should_stop


def _save_and_end(cfg: Any, trainer: Any, epoch_itr: Any) -> NoReturn:
    """Save a checkpoint unless this update has one, and exit as a process that the signal ended would.

    Raises:
        SystemExit: always: 128 and the number of the signal.
    """
    from fairseq import checkpoint_utils

    if STOP.saved_at != trainer.get_num_updates():
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
    folder = Path(cfg.checkpoint.save_dir).absolute()
    kept = "no checkpoint is kept (checkpoint.no_save, checkpoint.no_last_checkpoints)"
    if not cfg.checkpoint.no_save and not cfg.checkpoint.no_last_checkpoints:
        kept = f"saved in {folder}; to go on, {same_command()}"
    chosen = STOP.signal or signal.SIGTERM
    logger.warning("stopped by %s after update %d: %s", chosen.name, trainer.get_num_updates(), kept)
    raise SystemExit(128 + chosen)


def _save(original: Any, cfg: Any, trainer: Any, epoch_itr: Any, val_loss: float | None) -> None:
    """Save a checkpoint; a score that is not finite is no best one, and no better one either later on."""
    if val_loss is not None and not math.isfinite(val_loss):
        logger.warning("%s is %s: this checkpoint is not compared", cfg.best_checkpoint_metric, val_loss)
        val_loss = None
    original(cfg, trainer, epoch_itr, val_loss)
    STOP.saved_at = trainer.get_num_updates()


def _save_state(original: Any, trainer: Any, filename: str, extra_state: dict[str, Any]) -> None:
    """Add to a checkpoint what a resumed run asks for."""
    early = vars(_functions_with_state()[-1])
    state = {_WORLD: trainer.data_parallel_world_size, _DUE: STOP.validation_due}
    if "num_runs" in early:
        state[_PATIENCE] = {name: early[name] for name in ("best", "num_runs") if name in early}
    if started_from := vars(trainer).get(STARTED_FROM):
        state[STARTED_FROM] = started_from
    original(trainer, filename, {**extra_state, **state})


def _train_step(original: Any, trainer: Any, samples: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an update; name the update and its items if gradients are not finite."""
    STOP.in_update = True
    if (begin_update := getattr(trainer.task, "begin_update", None)) is not None:
        begin_update(samples)
    try:
        return original(trainer, samples, *args, **kwargs)
    except FloatingPointError as error:
        raise FaultError(_not_finite(trainer, samples, error)) from error
    finally:
        STOP.in_update = False


def _not_finite(trainer: Any, samples: Sequence[Any], error: FloatingPointError) -> Fault:
    name_items = getattr(trainer.task, "name_items", None)
    names = [name for sample in samples if sample for name in (name_items(sample) if name_items else ())]
    items = f" of {', '.join(names)}" if names else ""
    step = (
        "lower optimization.lr, lengthen the warm-up or set optimization.clip_norm, and "
        f"{same_command()}: it resumes from the last checkpoint"
    )
    place = f"update {trainer.get_num_updates() + 1}{items}"
    return fault(place, "loss and gradients must be finite", str(error), step, code="training.not_finite")


def _valid_step(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    result = original(trainer, *args, **kwargs)
    if _stopped(trainer):
        raise _StoppedInValidation
    return result


def _build_ema(original: Any, trainer: Any) -> None:
    """Build the average of the weights; those that old-style weight norm computes cannot be copied as is."""
    for module in trainer._model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                setattr(module, hook.name, getattr(module, hook.name).detach())
    original(trainer)
