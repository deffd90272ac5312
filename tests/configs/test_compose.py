"""The configuration tree composes as the README says."""

from pathlib import Path

import pytest
from fairseq.dataclass.initialize import add_defaults, hydra_init
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fairseq_vgs.configs.scenarios import SCENARIOS

EXAMPLES = Path(__file__).parents[2] / "examples" / "vgs"
PRIMARIES = sorted(
    path.stem for path in EXAMPLES.glob("*.yaml") if path.stem not in ("base", "study", "finetune_ctc")
)
ALPHA = {"w2v2": [0.0], "vgs": [1.0], "vgs_plus": [0.5]}
SCHEDULED = {name: name.split("_then_")[1] for name in SCENARIOS if "_then_" in name}


def composed(primary, *overrides):
    hydra_init(primary)
    with initialize_config_dir(config_dir=str(EXAMPLES), version_base="1.1"):
        cfg = compose(config_name=primary, overrides=list(overrides))
    add_defaults(cfg)
    return cfg


def test_primaries_are_the_nine_scenarios():
    assert set(PRIMARIES) == set(SCENARIOS)


@pytest.mark.parametrize("primary", PRIMARIES)
def test_primary_holds_only_defaults_with_self_first(primary):
    """Hydra 1.0 and 1.3 compose anything else differently."""
    cfg = OmegaConf.load(EXAMPLES / f"{primary}.yaml")
    assert list(cfg) == ["defaults"]
    assert cfg.defaults[:2] == ["_self_", "base"]


@pytest.mark.parametrize(
    "path", [*sorted(EXAMPLES.glob("*/*.yaml")), EXAMPLES / "base.yaml"], ids=lambda p: p.stem
)
def test_groups_are_global_packages(path):
    assert path.read_text().startswith("# @package _global_\n")


@pytest.mark.parametrize(("primary", "alpha"), ALPHA.items())
def test_scenario_sets_alpha(primary, alpha):
    cfg = composed(primary)
    assert list(cfg.criterion.alpha_values) == alpha
    assert cfg.criterion._name == "vgs_multitask"
    assert cfg.task._name == "vgs_pretraining"
    assert cfg.model._name == "vgs_wav2vec2"
    assert cfg.common.cpu
    assert cfg.optimization.max_update > 1


@pytest.mark.parametrize("run_config", ["gpu_1", "gpu_4"])
def test_the_papers_model_on_gpus(run_config):
    cfg = composed("vgs_plus", "model=paper", f"run_config={run_config}", "task.data=somewhere")
    assert cfg.model.encoder_layers == 12
    assert cfg.model.autocast == "bf16"
    assert cfg.optimization.clip_norm == 1.0
    assert cfg.lr_scheduler.warmup_updates == pytest.approx(0.1 * cfg.lr_scheduler.total_num_update)
    assert cfg.dataset.batch_size * cfg.distributed_training.distributed_world_size == 64
    assert not cfg.common.cpu
    recipe = {"adam_betas": "(0.9,0.999)", "adam_eps": 1e-6, "weight_decay": 0.01, "_name": "adam"}
    assert {key: cfg.optimizer[key] for key in recipe} == recipe
    assert (list(cfg.optimization.lr), cfg.optimization.max_epoch) == ([1e-4], 70)
    assert cfg.lr_scheduler._name == "polynomial_decay"
    assert (cfg.task.max_seconds, cfg.task.valid_max_seconds) == (8.0, 10.0)
    assert (cfg.criterion.vgs_loss, cfg.criterion.margin) == ("masked_margin", 1.0)
    assert (cfg.criterion.similarity, cfg.model.vgs_forward) == ("dot", "masked")


def test_finetuning_is_fairseqs_own():
    primary = OmegaConf.load(EXAMPLES / "finetune_ctc.yaml")
    assert list(primary) == ["defaults"]
    assert primary.defaults[0] == "_self_"
    cfg = composed("finetune_ctc", "task.data=/text", "model.w2v_path=/checkpoint.pt")
    names = (cfg.task._name, cfg.model._name, cfg.criterion._name)
    assert names == ("audio_finetuning", "wav2vec_ctc", "ctc")
    assert cfg.task.labels == "ltr"
    assert cfg.model.layerdrop == 0.0  # the plugin's models refuse another
    assert cfg.optimization.max_update > 1


def test_base_is_the_former_name_of_the_papers_size():
    assert composed("vgs_plus", "model=base") == composed("vgs_plus", "model=paper")


def test_contrastive_criterion_knows_all_keys():
    cfg = composed("vgs", "criterion._name=vgs_contrastive").criterion
    assert cfg._name == "vgs_contrastive"


@pytest.mark.parametrize(
    "override",
    ["model.image_encoder_settings={window: 7}", "+model.image_encoder_settings.window=7"],
)
def test_settings_of_an_entry_from_outside_on_the_command_line(override):
    assert composed("vgs_plus", override).model.image_encoder_settings.window == 7


def test_model_groups_list_only_what_differs_from_the_defaults():
    base = OmegaConf.load(EXAMPLES / "base.yaml")
    for path in (EXAMPLES / "model").glob("*.yaml"):
        for section, values in OmegaConf.to_container(OmegaConf.load(path)).items():
            defaults = OmegaConf.to_container(base[section])
            assert not {key for key, value in values.items() if defaults[key] == value}, path


def test_pictures_model_is_the_papers_with_a_backbone():
    cfg = composed("vgs_plus", "model=pictures", "model.image_backbone=somewhere", "task.data=elsewhere")
    base = composed("vgs_plus", "model=paper", "task.data=elsewhere")
    assert cfg.task.image_size is None and cfg.task.image_input is None and not cfg.task.image_flip
    assert cfg.model.image_encoder == "hugging_face"
    changed = {key for key in cfg.model if cfg.model[key] != base.model[key]}
    assert changed == {
        "image_encoder",
        "image_backbone",
        "image_backbone_output",
        "image_size",
        "image_layers",
    }


def test_command_line_wins():
    cfg = composed("vgs_plus", "model.vgs_layer=3", "criterion.alpha_values=[0.1]", "task.data=elsewhere")
    assert cfg.model.vgs_layer == 3
    assert list(cfg.criterion.alpha_values) == [0.1]
    assert cfg.task.data == "elsewhere"


@pytest.mark.parametrize(("primary", "second"), SCHEDULED.items())
def test_second_phase_is_its_base_and_a_start_that_has_to_be_given(primary, second):
    phase, base = composed(primary), composed(second)
    start = phase.checkpoint.finetune_from_model
    assert "give checkpoint.finetune_from_model=" in start  # no file: fairseq stops, and shows it
    phase.checkpoint.finetune_from_model = None
    assert phase == base


def test_one_run_variant_needs_the_update_at_which_alpha_jumps():
    cfg = composed("vgs_plus", "scenario=w2v2_then_vgs_in_one_run", "criterion.alpha_boundaries=[200]")
    assert cfg.criterion.alpha_schedule == "piecewise"
    assert list(cfg.criterion.alpha_values) == [0.0, 1.0]
    assert list(cfg.criterion.alpha_boundaries) == [200]


def test_paper_length():
    """70 epochs of floor(592,187 / 64) updates, a tenth of them to warm up."""
    cfg = composed("vgs_plus", "model=paper", "run_config=gpu_1", "task.data=somewhere")
    assert cfg.optimization.max_update == 70 * (592_187 // 64)
    assert cfg.lr_scheduler.warmup_updates == 7 * (592_187 // 64)
