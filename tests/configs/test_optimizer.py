"""The optimizer and the schedule of base.yaml beside the authors' BertAdam: equal but for one factor."""

import copy
import math
from pathlib import Path

import pytest
import torch
from fairseq import optim
from fairseq.optim.lr_scheduler import build_lr_scheduler
from omegaconf import OmegaConf
from reference.bert_adam import bert_adam, correction, warmup_linear

BASE = Path(__file__).parents[2] / "examples" / "vgs" / "base.yaml"
UPDATES, WARMUP, LR = 200, 0.1, 1e-2
CURVATURE = [[0.3, 2.0, 0.01], [5.0, 0.1], [1.0]]  # the second stands for a bias, the third gets no gradient
START = [[1.0, -2.0, 0.5], [0.7, -0.3], [0.25]]


def settings():
    """Read what base.yaml and schedule=linear say, at the length of this test."""
    cfg = OmegaConf.merge(OmegaConf.load(BASE), OmegaConf.load(BASE.parent / "schedule" / "linear.yaml"))
    cfg.optimization.max_update = UPDATES
    cfg.optimization.lr = [LR]
    cfg.lr_scheduler.warmup_updates = int(WARMUP * UPDATES)
    cfg = OmegaConf.masked_copy(cfg, ["optimizer", "lr_scheduler", "optimization"])
    OmegaConf.resolve(cfg)
    return cfg


def build(parameters):
    cfg = settings()
    optimizer_cfg = OmegaConf.merge(
        OmegaConf.structured(optim.OPTIMIZER_DATACLASS_REGISTRY["adam"]),
        cfg.optimizer,
        {"lr": [LR], "tpu": False},
    )
    optimizer = optim.build_optimizer(optimizer_cfg, parameters)
    schedule_cfg = OmegaConf.merge(cfg.lr_scheduler, {"lr": [LR], "force_anneal": None})
    return optimizer, build_lr_scheduler(schedule_cfg, optimizer), cfg.optimization.clip_norm


def quadratic(weights):
    """Give the gradients of sum(curvature * w^2 / 2); the last parameter takes no part."""
    rows = zip(CURVATURE, weights, strict=True)
    gradients = [[c * w for c, w in zip(row, values, strict=True)] for row, values in rows]
    return [*gradients[:-1], None]


def fairseq_path(gradients_at):
    """Train as fairseq's trainer does: schedule, clip, step."""
    parameters = [torch.nn.Parameter(torch.tensor(values)) for values in START]
    optimizer, schedule, max_norm = build(parameters)
    path, rates = [copy.deepcopy(START)], []
    for update in range(UPDATES):
        rates.append(schedule.step_update(update))
        for parameter, gradient in zip(parameters, gradients_at(path[-1]), strict=True):
            parameter.grad = None if gradient is None else torch.tensor(gradient)
        optimizer.clip_grad_norm(max_norm)
        optimizer.step()
        path.append([parameter.tolist() for parameter in parameters])
    return path, rates


def flat(weights):
    return [value for parameter in weights for value in parameter]


def test_learning_rates_are_equal():
    _, rates = fairseq_path(quadratic)
    expected = [LR * warmup_linear(update, UPDATES, WARMUP) for update in range(UPDATES)]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates[0] == 0
    assert max(rates) == rates[20] == LR


def test_with_adams_bias_correction_bert_adam_is_fairseqs_adam():
    """Hence moments, epsilon, decay of every parameter, clipping and the schedule agree."""
    actual, _ = fairseq_path(quadratic)
    expected = bert_adam(START, quadratic, updates=UPDATES, lr=LR, warmup=WARMUP, corrected=True)
    for update in range(UPDATES + 1):
        assert flat(actual[update]) == pytest.approx(flat(expected[update]), rel=1e-5, abs=2e-6)


def test_gradients_are_clipped_in_both():
    def steep(weights):
        return [None if g is None else [1000 * value for value in g] for g in quadratic(weights)]

    actual, _ = fairseq_path(steep)
    expected = bert_adam(START, steep, updates=UPDATES, lr=LR, warmup=WARMUP, corrected=True)
    unclipped = bert_adam(
        START, steep, updates=UPDATES, lr=LR, warmup=WARMUP, corrected=True, max_norm=math.inf
    )
    assert flat(actual[-1]) == pytest.approx(flat(expected[-1]), rel=1e-4, abs=1e-6)
    assert flat(actual[-1]) != pytest.approx(flat(unclipped[-1]), rel=1e-3)


def test_steps_differ_by_the_bias_correction():
    """On one sequence of gradients, decay aside: BertAdam's step is larger by a known factor, 6.6 at most."""
    rng = torch.Generator().manual_seed(0)
    sequence = torch.randn(UPDATES, 3, generator=rng, dtype=torch.float64).tolist()

    def runner():
        remaining = iter(sequence)
        return lambda _: [next(remaining), [0.0, 0.0], None]

    fairseqs, rates = fairseq_path(runner())
    authors = bert_adam(START, runner(), updates=UPDATES, lr=LR, warmup=WARMUP)
    ratios = []
    for update in range(1, UPDATES):  # the first has learning rate 0
        decays = [1 - rates[update] * 0.01] * 3
        steps = [
            [
                new - decay * old
                for new, old, decay in zip(path[update + 1][0], path[update][0], decays, strict=True)
            ]
            for path in (authors, fairseqs)
        ]
        ratio = 1 / correction(update + 1, 0.9, 0.999)
        assert steps[0] == pytest.approx([ratio * step for step in steps[1]], rel=1e-3, abs=1e-6)
        ratios.append(ratio)
    assert max(ratios) == pytest.approx(6.57, abs=0.01)
    assert ratios[-1] == pytest.approx(2.35, abs=0.01)


def test_every_parameter_decays_unless_it_has_no_gradient():
    def zero(weights):
        return [[0.0] * len(values) for values in weights[:-1]] + [None]

    path, rates = fairseq_path(zero)
    share = math.prod(1 - 0.01 * rate for rate in rates)
    expected = [[share * value for value in values] for values in START[:-1]] + [START[-1]]
    assert flat(path[-1]) == pytest.approx(flat(expected), rel=1e-5)
    assert flat(path[-1]) == pytest.approx(
        flat(bert_adam(START, zero, updates=UPDATES, lr=LR, warmup=WARMUP)[-1])
    )
