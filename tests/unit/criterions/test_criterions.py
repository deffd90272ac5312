import math

import pytest
import torch
from fairseq import metrics
from support.faults import raises_fault
from support.tiny import NO_DROPOUT, tiny_model, tiny_sample

from fairseq_vgs.criterions import VgsContrastiveCriterion, VgsMultitaskCriterion
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.tasks.updates import weigh_by_pairs


def run(criterion, model, sample, *, train=True):
    model.train(train)
    criterion.train(train)
    torch.manual_seed(3)
    return criterion(model, sample)


def gradients(criterion, sample, **settings):
    model = tiny_model(**NO_DROPOUT, **settings)
    loss, sample_size, _ = run(criterion, model, sample)
    (loss / sample_size).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_chance_value_with_collapsed_embeddings():
    """With uninformative embeddings L_AV is 2 ln(1 + (N-1) e) under margin 1.

    REFERENCE: 10.30 at 64 pairs.
    """
    criterion = VgsContrastiveCriterion(None).train()
    n = 64
    output = {"speech_embedding": torch.zeros(n, 20), "image_embedding": torch.zeros(n, 20)}
    sample = {"id": torch.arange(n), "image_id": torch.arange(n)}
    loss, logs = criterion.vgs_branch(output, sample)
    assert float(loss) == pytest.approx(2 * math.log(1 + 63 * math.e), abs=1e-4)
    assert float(loss) == pytest.approx(10.30, abs=0.01)
    assert float(logs["speech_spread"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_gradient_is_the_weighted_sum_of_the_branches(alpha):
    sample = tiny_sample(n_pairs=4, n_unpaired=2)
    both = gradients(VgsMultitaskCriterion(None, alpha_values=[alpha]), sample)
    ssl = gradients(VgsMultitaskCriterion(None, alpha_values=[0.0]), sample)
    vgs = gradients(VgsMultitaskCriterion(None, alpha_values=[1.0]), sample)
    checked = 0
    for name, gradient in both.items():
        parts = [w * g[name] for w, g in ((1 - alpha, ssl), (alpha, vgs)) if g[name] is not None]
        if parts:
            torch.testing.assert_close(gradient, sum(parts), rtol=1e-3, atol=1e-6)
            checked += 1
    assert checked > 50


def test_every_pair_of_an_update_weighs_the_same_in_the_vgs_loss():
    """Two batches of one update: the longer captions have more masked frames per pair, but no more weight."""
    alpha = 0.25
    samples = [tiny_sample(n_pairs=4, n_samples=16000), tiny_sample(n_pairs=7, n_samples=8000)]
    for sample in samples:
        n_frames = 49 if sample["n_pairs"] == 4 else 24
        numbers = torch.arange(n_frames // 2).expand(len(sample["net_input"]["source"]), -1)
        sample["net_input"]["mask_indices"] = numbers
    model, criterion = tiny_model(**NO_DROPOUT), VgsMultitaskCriterion(None, alpha_values=[alpha])

    def summed(criterion, weights=(1.0, 1.0)):
        model.zero_grad()
        sizes = []
        for sample, weight in zip(samples, weights, strict=True):
            loss, size, _ = run(criterion, model, sample)
            (weight * loss).backward()
            sizes.append(size)
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, sizes

    ssl, n_frames = summed(VgsMultitaskCriterion(None, alpha_values=[0.0]))
    vgs, n_pairs = summed(VgsMultitaskCriterion(None, alpha_values=[1.0]))
    assert n_pairs == [4, 7]
    assert n_frames[0] / 4 != n_frames[1] / 7
    weigh_by_pairs(samples)
    both, sizes = summed(criterion)
    assert sizes == n_frames
    checked = 0
    for name, gradient in both.items():
        parts = [(1 - alpha) * ssl[name] / sum(n_frames)] if name in ssl else []
        parts += [alpha * vgs[name] / sum(n_pairs)] if name in vgs else []
        torch.testing.assert_close(gradient / sum(sizes), sum(parts), rtol=1e-3, atol=1e-6)
        checked += 1
    assert checked > 50


def test_a_single_batch_keeps_its_weight():
    sample = tiny_sample()
    weigh_by_pairs([sample, {}])
    weigh_by_pairs([sample])
    assert "vgs_sample_size" not in sample


def test_loss_per_item_is_the_weighted_sum_of_means():
    """Each loss is a mean over its own items before weighing, whatever the batch size."""
    for n_pairs, n_samples in [(4, 8000), (7, 16000)]:
        sample = tiny_sample(n_pairs=n_pairs, n_samples=n_samples)
        loss, size, logs = run(
            VgsMultitaskCriterion(None, alpha_values=[0.25]), tiny_model(), sample, train=False
        )
        means = 0.75 * logs["ssl_loss"] / logs["n_ssl_frames"] + 0.25 * logs["vgs_loss"] / logs["n_vgs_pairs"]
        assert float(loss.detach() / size) == pytest.approx(float(means), rel=1e-5)


def test_zero_weight_branch_is_not_computed_in_training_but_in_evaluation():
    sample = tiny_sample()
    model = tiny_model()
    for alpha, absent in [(0.0, "vgs_loss"), (1.0, "ssl_loss")]:
        criterion = VgsMultitaskCriterion(None, alpha_values=[alpha])
        *_, logs = run(criterion, model, sample)
        assert absent not in logs
        *_, logs = run(criterion, model, sample, train=False)
        assert {"vgs_loss", "ssl_loss"} <= set(logs)
        assert sample["embeddings"]["speech"].shape == (4, 20)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_zero_weight_branch_is_computed_on_request_as_the_authors_do(alpha):
    sample = tiny_sample()
    skipping = gradients(VgsMultitaskCriterion(None, alpha_values=[alpha]), sample)
    model = tiny_model(**NO_DROPOUT, speech_head="resdavenet").train()
    before = model.speech_head.convolutions.norm.running_mean.clone()
    criterion = VgsMultitaskCriterion(None, alpha_values=[alpha], skip_unweighted=False)
    loss, size, logs = run(criterion, model, sample)
    (loss / size).backward()
    own = {"ssl": model.ssl_parameters(), "vgs": model.vgs_parameters()}["vgs" if alpha == 0 else "ssl"]
    for parameter in own:  # Adam decays what has a gradient, be it zero
        assert parameter.grad is not None
        assert not parameter.grad.any()
    weighted = {0.0: "ssl_loss", 1.0: "vgs_loss"}[alpha]
    n_items = logs["n_ssl_frames"] if alpha == 0 else logs["n_vgs_pairs"]
    assert float(loss / size) == pytest.approx(float(logs[weighted] / n_items), rel=1e-5)
    assert {"ssl_loss", "vgs_loss"} <= set(logs)
    assert not torch.equal(model.speech_head.convolutions.norm.running_mean, before)
    assert [name for name, gradient in skipping.items() if gradient is None]
    kept = {id(parameter) for parameter in model.unused_parameters()}
    assert kept == {id(model.logit_scale), id(model.logit_bias)}


def test_schedule_follows_the_update():
    criterion = VgsMultitaskCriterion(
        None, alpha_schedule="piecewise", alpha_values=[0.0, 1.0], alpha_boundaries=[10]
    )
    model, sample = tiny_model(), tiny_sample()
    seen = []
    for update in (0, 9, 10, 11):
        criterion.set_num_updates(update)
        *_, logs = run(criterion, model, sample)
        seen.append((logs["alpha"], "ssl_loss" in logs, "vgs_loss" in logs))
    assert seen == [(0.0, True, False)] * 2 + [(1.0, False, True)] * 2


@pytest.mark.parametrize("vgs_loss", ["masked_margin", "infonce", "sigmoid"])
def test_learned_scale_is_trained_where_the_loss_uses_it(vgs_loss):
    similarity = "dot" if vgs_loss == "masked_margin" else "cosine"
    criterion = VgsContrastiveCriterion(None, vgs_loss=vgs_loss, similarity=similarity)
    model = tiny_model()
    loss, *_ = run(criterion, model, tiny_sample())
    loss.backward()
    assert (model.logit_scale.grad is not None) == (vgs_loss != "masked_margin")
    assert (model.logit_bias.grad is not None) == (vgs_loss == "sigmoid")


def test_one_pair_is_refused_in_training_and_counted_out_in_evaluation():
    criterion, model, sample = VgsContrastiveCriterion(None), tiny_model(), tiny_sample(n_pairs=1)
    with raises_fault("setting.value", "of the training split"):
        run(criterion, model, sample)
    loss, _, logs = run(criterion, model, sample, train=False)
    assert logs["n_vgs_pairs"] == 0
    assert torch.isfinite(loss)
    assert sample["embeddings"]["image"].shape[0] == 1


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_dummy_batch_counts_for_nothing(alpha):
    """fairseq repeats a batch where a rank has none; alone it must neither fail nor be logged."""
    model, sample = tiny_model(), {**tiny_sample(), "is_dummy": True}
    loss, _, logs = run(VgsMultitaskCriterion(None, alpha_values=[alpha]), model, sample)
    (loss * 0).backward()
    assert torch.isfinite(loss)
    assert all(float(value) == 0 for value in logs.values())
    real = run(VgsMultitaskCriterion(None, alpha_values=[alpha]), model, tiny_sample())[2]
    assert {key: torch.is_tensor(v) for key, v in logs.items()} == {
        key: torch.is_tensor(v) for key, v in real.items()
    }


def test_meters_in_nats():
    criterion = VgsMultitaskCriterion(None)
    _, _, logs = run(criterion, tiny_model(), tiny_sample())
    with metrics.aggregate(new_root=True) as meters:
        criterion.reduce_metrics([logs, logs])
    values = meters.get_smoothed_values()
    assert values["alpha"] == 0.5
    assert values["ssl_loss"] == pytest.approx(float(logs["ssl_loss"] / logs["n_ssl_frames"]), abs=1e-3)
    assert values["vgs_loss"] == pytest.approx(float(logs["vgs_loss"] / logs["n_vgs_pairs"]), abs=1e-3)
    expected = {
        "loss",
        "ssl_contrastive",
        "ssl_diversity",
        "ssl_feature_penalty",
        "ssl_accuracy",
        "code_perplexity",
    }
    expected |= {
        "vgs_speech_to_image_accuracy",
        "speech_spread",
        "image_spread",
        "padding_share",
        "pairs_per_second",
    }
    assert expected <= set(values)


def test_loss_weights_are_checked():
    with raises_fault("setting.value", "criterion.loss_weights"):
        VgsMultitaskCriterion(None, loss_weights=[0.1])


@pytest.mark.parametrize(
    ("settings", "code", "place"),
    [
        ({"vgs_loss": "triplet"}, "setting.choice", "criterion.vgs_loss"),
        ({"vgs_loss_settings": {"magrin": 1}}, "setting.unknown", "criterion.vgs_loss_settings.magrin"),
        ({"alpha_schedule": "step"}, "setting.choice", "criterion.alpha_schedule"),
        ({"alpha_values": [1.5]}, "setting.value", "criterion.alpha_values"),
        ({"alpha_boundaries": [3]}, "setting.value", "criterion.alpha_boundaries"),
        (
            {"alpha_schedule_settings": {"values": [2.0]}},
            "setting.value",
            "criterion.alpha_schedule_settings.values",
        ),
    ],
)
def test_impossible_settings_are_named_by_their_keys(settings, code, place):
    with pytest.raises(FaultError) as caught:
        VgsMultitaskCriterion(None, **settings)
    assert [(fault.code, fault.place) for fault in caught.value.faults] == [(code, place)]


def test_settings_of_the_loss_win_over_the_shared_key():
    assert VgsMultitaskCriterion(None, margin=0.5).vgs_loss.margin == 0.5
    assert VgsMultitaskCriterion(None, margin=0.5, vgs_loss_settings={"margin": 2}).vgs_loss.margin == 2.0
