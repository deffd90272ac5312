"""What messages advise exists: options of the command line, keys of the configuration."""

import argparse
import ast
import dataclasses
import re

from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from support.source_files import CHECKOUT, MODULES, parse
from support.wording import wording

import fairseq_vgs.criterions
import fairseq_vgs.models
import fairseq_vgs.tasks  # noqa: F401 - registers the classes, as the two above
from fairseq_vgs.cli.main import build_parser

# of fairseq-hydra-train, pip, hf download and rsvg-convert
FOREIGN = {
    "--cfg", "--config-dir", "--config-name", "--config-path", "--height", "--hydra-help",
    "--keep-aspect-ratio", "--local-dir", "--multiprocessing-fork", "--no-deps", "--require-hashes",
    "--width",
}  # fmt: skip
SCHEMATIC = {"--field-name", "--no-", "model.key"}  # in docstrings, for any
FILES = {"model.safetensors"}
MODELS = ("vgs_wav2vec2", "wav2vec_ctc")


def texts():
    """Yield place and text of every string of the package, docstrings too."""
    for path in MODULES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(CHECKOUT)}:{node.lineno}", node.value


def options(parser):
    """Return all options of a parser and its subcommands."""
    parser.complete()
    found = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found.update(*map(options, action.choices.values()))
    return found


def keys():
    """Return section -> keys: fairseq's own and those of the classes that a section can choose."""

    def names(dataclass):
        return {field.name for field in dataclasses.fields(dataclass)}

    found = {}
    for section, field in FairseqConfig.__dataclass_fields__.items():
        own = field.default if field.default_factory is dataclasses.MISSING else field.default_factory
        found[section] = names(own) if dataclasses.is_dataclass(own) else set()
    found["task"] |= names(TASK_DATACLASS_REGISTRY["vgs_pretraining"])
    found["model"].update(*(names(MODEL_DATACLASS_REGISTRY[name]) for name in MODELS))
    for section in ("criterion", "optimizer", "lr_scheduler"):
        found[section].update(*map(names, REGISTRIES[section]["dataclass_registry"].values()))
    return found


def test_options_exist():
    known = options(build_parser()) | FOREIGN | SCHEMATIC
    wrong = [
        f"{place}: {name}"
        for place, text in texts()
        for name in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)
        if name not in known
    ]
    assert not wrong, "\n".join(wrong)


def test_keys_exist():
    known, codes = keys(), wording()
    named = re.compile(rf"\b({'|'.join(known)})\.(\w+)(?=[=\s,;:)]|$)")
    wrong = [
        f"{place}: {found[0]}"
        for place, text in texts()
        if text not in codes
        for found in named.finditer(text)
        if found[2] not in known[found[1]] and found[0] not in SCHEMATIC | FILES
    ]
    assert not wrong, "\n".join(wrong)
