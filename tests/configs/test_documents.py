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


@pytest.mark.parametrize(("command", "document"), RUNS.items())
def test_training_commands_compose(command, document):
    words = [word for word in shlex.split(command) if not word.startswith("--cfg") and word != "job"]
    folder, primary = words[words.index("--config-dir") + 1], words[words.index("--config-name") + 1]
    overrides = [word for word in words[4:] if not word.startswith("hydra.")]
    hydra_init(primary)
    with initialize_config_dir(config_dir=str(CHECKOUT / folder), version_base="1.1"):
        cfg = compose(config_name=primary, overrides=overrides)
    assert cfg.task._name in ("vgs_pretraining", "audio_finetuning")


def test_training_commands_are_found():
    assert len(RUNS) >= 15
