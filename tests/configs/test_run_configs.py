"""Recipes: what the plain configurations are by default, and what the paper's stay."""

from configs.test_compose import PRIMARIES, composed
from omegaconf import OmegaConf

from fairseq_vgs.launch.recipe import SCHEDULES
from fairseq_vgs.launch.training import grounds
from fairseq_vgs.models import VgsWav2Vec2Model
from fairseq_vgs.tasks.settings import follow_image_encoder

BEST = {"best_checkpoint_metric": "speech_to_image_r10", "maximize_best_checkpoint_metric": True}


def test_quickstart_is_the_former_name_of_the_default_recipe():
    assert composed("vgs_plus", "run_config=quickstart") == composed("vgs_plus")


def test_plain_configurations_have_the_quickstarts_recipe():
    cfg = composed("vgs_plus")
    assert (cfg.criterion.vgs_loss, cfg.criterion.similarity) == ("infonce", "cosine")
    assert (cfg.model.vgs_forward, cfg.model.dropout, cfg.model.image_dropout) == ("unmasked", 0, 0)
    assert (cfg.optimization.max_update, cfg.lr_scheduler.total_num_update) == (320, 320)
    assert cfg.distributed_training.distributed_world_size == 1  # on a machine with several GPUs, too


def test_the_best_checkpoint_is_that_of_the_recall_where_there_is_one():
    for primary in PRIMARIES:
        kept = composed(primary).checkpoint
        by_recall = {key: kept[key] for key in BEST} == BEST
        assert by_recall == grounds(primary), primary
        assert by_recall or (kept.best_checkpoint_metric, kept.maximize_best_checkpoint_metric) == (
            "loss",
            False,
        )


def test_w2v2s_recipe_differs_in_the_best_checkpoint_alone():
    ours, others = composed("w2v2"), composed("w2v2", "run_config=cpu")
    ours.checkpoint.update(BEST)
    assert ours == others


def test_small_is_between_tiny_and_the_papers_size():
    counts = {}
    for size in ("tiny", "small", "paper"):
        cfg = composed("vgs_plus", f"model={size}", "task.data=x", "model.image_dim=2048")
        follow_image_encoder(cfg.task)
        counts[size] = sum(weight.numel() for weight in VgsWav2Vec2Model(cfg.model).parameters())
    assert counts["small"] == 20_004_866
    assert 4 * counts["tiny"] < counts["small"] < counts["paper"] / 4


def test_schedules_are_those_of_the_recipes():
    """At the numbers of pairs that the files are written for."""
    for size, run_config, n_pairs in (
        ("tiny", "cpu", 3_000), ("small", "small", 30_000), ("paper", "gpu_1", 592_187)
    ):  # fmt: skip
        cfg, schedule = composed("vgs_plus", f"run_config={run_config}"), SCHEDULES[size]
        updates = schedule.updates(n_pairs)
        shown = (updates, schedule.warmup_updates(updates), schedule.batch)
        written = (cfg.optimization.max_update, cfg.lr_scheduler.warmup_updates, cfg.dataset.batch_size)
        assert shown == written, size


def test_studys_recipe_does_not_depend_on_the_default():
    base = OmegaConf.to_container(composed("vgs_plus", "run_config=study"), resolve=True)
    assert (base["criterion"]["vgs_loss"], base["model"]["padding"]) == ("infonce", "fairseq")
    assert base["dataset"]["batch_size"] == 16
    assert base["checkpoint"]["best_checkpoint_metric"] == "loss"
