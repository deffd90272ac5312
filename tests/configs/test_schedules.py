"""Every schedule of learning rates runs, and gives the rates that its file promises."""

import math

import pytest
import torch
from configs.test_compose import EXAMPLES, composed
from fairseq.optim import build_optimizer
from fairseq.optim.lr_scheduler import LR_SCHEDULER_DATACLASS_REGISTRY, build_lr_scheduler
from omegaconf import OmegaConf, open_dict

LR, WARMUP, UPDATES = 0.01, 10, 110
SETTINGS = (f"optimization.lr=[{LR}]", f"optimization.max_update={UPDATES}")
WARM = f"lr_scheduler.warmup_updates={WARMUP}"


def rates(*overrides):
    """Return the learning rates after 0, 1, ... updates."""
    cfg = composed("vgs_plus", *SETTINGS, *overrides)
    known = OmegaConf.structured(LR_SCHEDULER_DATACLASS_REGISTRY[cfg.lr_scheduler._name])
    with open_dict(known):
        known._name = cfg.lr_scheduler._name
    OmegaConf.set_struct(known, True)  # as fairseq merges: a key that the schedule lacks is refused
    cfg.lr_scheduler = OmegaConf.merge(known, cfg.lr_scheduler)
    OmegaConf.resolve(cfg.lr_scheduler)
    adam = {"_name": "adam", "lr": [LR], "adam_betas": "(0.9, 0.999)", "adam_eps": 1e-6, "weight_decay": 0.0}
    adam |= {"use_old_adam": False, "fp16_adam_stats": False, "tpu": False}
    optimizer = build_optimizer(OmegaConf.create(adam), [torch.nn.Parameter(torch.zeros(1))])
    schedule = build_lr_scheduler(cfg.lr_scheduler, optimizer)
    schedule.step_begin_epoch(1)
    return [schedule.step_update(update) for update in range(UPDATES + 1)]


def decay(update):
    """Return the share of the decay that is behind."""
    return (update - WARMUP) / (UPDATES - WARMUP)


# schedule -> rates at some updates, and overrides
EXPECTED = {
    "linear": ({5: LR / 2, 10: LR, 60: LR / 2, 110: 0.0}, [WARM]),
    "cosine": ({5: LR / 2, 10: LR, 60: LR / 2, 109: LR * (1 + math.cos(0.99 * math.pi)) / 2}, [WARM]),
    "inverse_sqrt": ({5: LR / 2, 10: LR, 40: LR / 2, 90: LR / 3}, [WARM]),
    "constant": ({10: LR, 11: LR, 110: LR}, [WARM]),
    "tri_stage": (
        {0: LR / 100, 11: LR, 54: LR, 55: LR, 110: LR / 100},
        ["~lr_scheduler.warmup_updates", "lr_scheduler.phase_ratio=[0.1,0.4,0.5]"],
    ),
}


def test_all_schedules_are_tried():
    assert set(EXPECTED) == {path.stem for path in (EXAMPLES / "schedule").glob("*.yaml")}


@pytest.mark.parametrize("schedule", EXPECTED)
def test_rates_are_those_of_the_schedule(schedule):
    expected, overrides = EXPECTED[schedule]
    found = rates(f"schedule={schedule}", *overrides)
    assert {update: found[update] for update in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert max(found) == pytest.approx(LR)


def test_a_second_power_decays_faster():
    assert rates(WARM, "lr_scheduler.power=2")[60] == pytest.approx(LR * (1 - decay(60)) ** 2)


@pytest.mark.parametrize("run_config", ["cpu", "quickstart", "gpu_1", "gpu_4"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sqrt", "constant"])
def test_the_warm_up_of_a_run_config_stays(schedule, run_config):
    own = composed("vgs_plus", f"run_config={run_config}").lr_scheduler.warmup_updates
    assert (
        composed("vgs_plus", f"schedule={schedule}", f"run_config={run_config}").lr_scheduler.warmup_updates
        == own
    )
