"""Training commands of the documents compose, with every override they name."""

import shlex

import pytest
from fairseq.dataclass.initialize import hydra_init
from hydra import compose, initialize_config_dir
from support.documents import DOCUMENTS, commands, named
from support.source_files import CHECKOUT

# command -> the last document that has it
RUNS = {
    shlex.join(words): named(path) for path in DOCUMENTS for words in commands(path, "fairseq-hydra-train")
}


# what recipes.md says that RUN stands for
RUN = [
    "--config-dir",
    "examples/vgs",
    "--config-name",
    "vgs_plus",
    "model=paper",
    "run_config=gpu_1",
    "task.data=DATA",
]


def test_the_recipes_say_what_run_stands_for():
    assert f"`{shlex.join(RUN)}`" in (CHECKOUT / "docs" / "recipes.md").read_text(encoding="utf-8")


def one_job(command):
    """Return the words of a command that trains: those of RUN in its place, the first job of a sweep."""
    words = shlex.split(command)
    if is_sweep := words[0] == "-m":
        words = [word if word[-1] == "]" else word.partition(",")[0] for word in words[1:]]
        words = [word.partition("],[")[0] + "]" * ("],[" in word) for word in words]
    if "RUN" in words:
        words = [*RUN, *words[words.index("RUN") + 1 :]]
    assert is_sweep or not any("],[" in word for word in words)
    return [word for word in words if not word.startswith("--cfg") and word != "job"]


@pytest.mark.parametrize(("command", "document"), RUNS.items())
def test_training_commands_compose(command, document):
    words = one_job(command)
    folder, primary = words[words.index("--config-dir") + 1], words[words.index("--config-name") + 1]
    overrides = [word for word in words[4:] if not word.startswith(("hydra.", "hydra/"))]
    hydra_init(primary)
    with initialize_config_dir(config_dir=str(CHECKOUT / folder), version_base="1.1"):
        cfg = compose(config_name=primary, overrides=overrides)
    assert cfg.task._name in ("vgs_pretraining", "audio_finetuning")


def test_training_commands_are_found():
    assert len(RUNS) >= 15
