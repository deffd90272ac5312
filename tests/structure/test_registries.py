"""Help of settings and commands, comments of base.yaml, documents and options list what there is."""

import re
import typing

import pytest
from support.source_files import CHECKOUT

from fairseq_vgs.alignments.items import PAUSES
from fairseq_vgs.alignments.read import _READERS, TABLE_COLUMNS
from fairseq_vgs.cli import prepare_items
from fairseq_vgs.criterions.vgs_contrastive import VgsCriterionConfig
from fairseq_vgs.evaluation.evaluator import EVALUATORS
from fairseq_vgs.evaluation.evaluators.abx import AbxSettings
from fairseq_vgs.losses import ALPHA_SCHEDULES, LOSSES
from fairseq_vgs.metrics.abx.distances import DISTANCES
from fairseq_vgs.models.settings import VgsWav2Vec2Config
from fairseq_vgs.modules import IMAGE_ENCODERS, SPEECH_HEADS
from fairseq_vgs.prepare.corpora import CORPORA

# setting -> its registry, and the configuration whose help lists the entries
CHOSEN = {
    "vgs_loss": (LOSSES, VgsCriterionConfig),
    "alpha_schedule": (ALPHA_SCHEDULES, VgsCriterionConfig),
    "speech_head": (SPEECH_HEADS, VgsWav2Vec2Config),
    "image_encoder": (IMAGE_ENCODERS, VgsWav2Vec2Config),
}
INTRODUCTION = "how alpha, the weight of the VGS loss, changes over updates: "
OTHER_WORDS = {"of", "or", "pictures"}


def own(registry):
    """Return the package's entries; tests of extensions may have added theirs in this process."""
    return {name for name, entry in registry.items() if entry.__module__.startswith("fairseq_vgs.")}


def listed(text):
    """Return the names in a text like "one (why), two or three"."""
    names = re.sub(r"\([^)]*\)", "", text.removeprefix(INTRODUCTION))
    return set(re.findall(r"\w+", names)) - OTHER_WORDS


@pytest.mark.parametrize("setting", CHOSEN)
def test_help_and_comment_list_every_entry(setting):
    registry, config = CHOSEN[setting]
    base = (CHECKOUT / "examples" / "vgs" / "base.yaml").read_text(encoding="utf-8")
    comment = re.search(rf"^  {setting}: .*? # (.*)$", base, re.MULTILINE)[1]
    for text in (config.__dataclass_fields__[setting].metadata["help"], comment):
        assert listed(text) == own(registry), text


@pytest.mark.parametrize(
    ("page", "registry"),
    [
        ("train.md", LOSSES),
        ("train.md", ALPHA_SCHEDULES),
        ("train.md", SPEECH_HEADS),
        ("train.md", IMAGE_ENCODERS),
        ("evaluate.md", EVALUATORS),
        ("data.md", CORPORA),
    ],
)
def test_documents_name_every_entry(page, registry):
    words = set(re.findall(r"\w+", (CHECKOUT / "docs" / page).read_text(encoding="utf-8")))
    assert own(registry) - words == set()


def test_options_offer_every_distance():
    assert set(typing.get_args(typing.get_type_hints(AbxSettings)["distance"])) == set(DISTANCES)


def test_prepare_items_lists_endings_columns_and_pauses():
    described = prepare_items.DESCRIPTION.lower()
    assert [ending for ending in _READERS if ending not in described] == []
    assert [column for column in TABLE_COLUMNS if column not in re.findall(r"\w+", described)] == []
    pauses = prepare_items.Options.__dataclass_fields__["pauses"].metadata["fairseq_vgs.option"].help
    listed_pauses = pauses.partition("default: ")[2].removesuffix(")").split(", ")
    assert {"" if label == "none" else label for label in listed_pauses} == set(PAUSES)
