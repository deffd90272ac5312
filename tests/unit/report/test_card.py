"""Model cards: from files alone, readable by the hub, and silent about what nobody has said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.report.card import Facts, read_facts

CARD = """\
language: [en, ru]
license: mit
repository: somebody/vgs
revision: 0123abc
data:
  - {name: Spoken pictures, hours: 12.5, speakers: 3, license: CC-BY-4.0, hub: somebody/pictures}
  - {name: Other}
not_for: Identifying speakers.
limits: Read speech only.
citation: "@misc{x, title={X}}"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a checkpoint and its retrieval results."""
    root = tmp_path_factory.mktemp("run")
    data = make_folder(root / "spoken pictures", lengths={"test": [5000 + 200 * n for n in range(12)]}).path
    (root / "run/checkpoints").mkdir(parents=True)
    path = write_checkpoint(root / "run/checkpoints/checkpoint_best.pt", image_encoder="patches")
    state = torch.load(path)
    state["cfg"]["task"]["image_size"] = 16
    state["cfg"]["criterion"].update(alpha_schedule="piecewise", alpha_values=[0.0, 0.5], vgs_loss="infonce")
    state["cfg"]["checkpoint"] = {"finetune_from_model": "elsewhere/first_phase.pt"}
    torch.save(state, path)
    assert main(["evaluate", "retrieval", str(path), str(data), "--output", str(root / "run/results")]) == 0
    return root / "run"


def card_of(run: Path, output: Path, *arguments: str) -> str:
    assert main(["export", str(run), str(output), *arguments]) == 0
    return (output / "README.md").read_text(encoding="utf-8")


def test_values_are_those_of_the_results(run, tmp_path):
    text = card_of(run, tmp_path / "vgs_plus")
    stored = json.loads((run / "results/metrics.json").read_text(encoding="utf-8"))["models"]["trained"][
        "metrics"
    ]
    found = ModelCard(text).data.eval_results  # which the hub's own reader makes of the model index
    assert {(one.task_type, one.dataset_name, one.dataset_split) for one in found} == {
        ("speech-to-image-retrieval", "spoken pictures", "test"),
        ("image-to-speech-retrieval", "spoken pictures", "test"),
    }
    values = {one.metric_type: one.metric_value for one in found}
    certain = {name for name, value in stored.items() if value.get("note")}
    assert values.keys() == stored.keys() - certain
    assert values == {name: pytest.approx(stored[name]["value"], abs=1e-4) for name in values}
    for part in ("12 captions of 6 images", "ties: ", "chance", "each ranks 6 images", "untrained (seed 1)"):
        assert part in text


def test_procedure_is_that_of_the_checkpoint(run, tmp_path):
    text = card_of(run, tmp_path / "vgs_plus")
    assert "| `criterion.alpha_values` | [0.0, 0.5] |" in text
    assert "starting from\n`first_phase.pt`" in text
    assert "elsewhere" not in text


def test_what_nobody_said_is_not_invented(run, tmp_path, capsys):
    text = card_of(run, tmp_path / "vgs_plus")
    data = ModelCard(text).data
    assert data.license is None
    assert data.language is None
    assert text.count("Not stated.") == 4  # uses that are excluded, data, limits, citation
    assert "language, license, data, not_for, limits, citation" in capsys.readouterr().err


def test_what_its_authors_say_is_there(run, tmp_path, capsys):
    path = tmp_path / "card.yaml"
    path.write_text(CARD, encoding="utf-8")
    text = card_of(run, tmp_path / "vgs_plus", "--card", str(path))
    data = ModelCard(text).data
    assert (data.license, data.language, data.datasets) == ("mit", ["en", "ru"], ["somebody/pictures"])
    assert data.to_dict()["library_name"] == "transformers"
    assert "| Spoken pictures | 12.5 | 3 | CC-BY-4.0 |" in text
    assert "| Other | not stated | not stated | not stated |" in text
    assert 'from_pretrained("somebody/vgs", trust_remote_code=True, revision="0123abc")' in text
    for said in ("Identifying speakers.", "Read speech only.", "@misc{x, title={X}}"):
        assert said in text
    assert "Not stated" not in text
    assert "not stated in the card" not in capsys.readouterr().err


def test_results_of_another_checkpoint_are_refused(run, tmp_path):
    other = write_checkpoint(tmp_path / "other.pt")
    with raises_fault("results.checkpoint", "metrics.json", error=ResultsError):
        main(["export", str(other), str(tmp_path / "hub"), "--results", str(run / "results"), "--debug"])
    assert not (tmp_path / "hub").exists()
    text = card_of(other, tmp_path / "hub")
    assert ModelCard(text).data.eval_results is None
    assert "None: no results" in text


def test_phone_results(tmp_path):
    folder = write_recordings(tmp_path / "abx")
    path = write_checkpoint(tmp_path / "model.pt")
    command = ["evaluate", "abx", path, folder, "--baseline", "none", "--output", tmp_path / "phones"]
    assert main(list(map(str, command))) == 0
    text = card_of(path, tmp_path / "hub")
    found = ModelCard(text).data.eval_results
    assert {one.task_type for one in found} == {"phone-discrimination"}
    assert "phone ABX error in %" in text


def test_a_speech_encoder_alone_has_no_scores_of_embeddings(tmp_path):
    data = make_folder(tmp_path / "data", lengths={"test": [5000 + 200 * n for n in range(12)]}).path
    path = write_checkpoint(tmp_path / "model.pt", use_cls=False)
    phones = write_recordings(tmp_path / "abx")
    for kind, folder in (("retrieval", data), ("abx", phones)):
        command = ["evaluate", kind, path, folder, "--baseline", "none", "--output", tmp_path / kind]
        assert main(list(map(str, command))) == 0
    text = card_of(path, tmp_path / "hub", "--plain")
    assert {one.task_type for one in ModelCard(text).data.eval_results} == {"phone-discrimination"}
    assert "get_speech_features" not in text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("- a\n", "card.file"),
        ("a: [", "card.file"),
        ("licence: mit\n", "card.key"),
        ("license: [mit]\n", "card.value"),
        ("data: SpokenCOCO\n", "card.value"),
        ("data: [{hours: 3}]\n", "card.value"),
        ("language: {en: 1}\n", "card.value"),
    ],
)
def test_faulty_facts_are_named(tmp_path, text, code):
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    with raises_fault(code, "card.yaml"):
        read_facts(tmp_path / "card.yaml")


def test_facts_may_be_few(tmp_path):
    (tmp_path / "card.yaml").write_text("language: en\nlimits:\n", encoding="utf-8")
    assert read_facts(tmp_path / "card.yaml") == Facts(language=["en"])


def test_a_missing_file_of_facts_is_named(tmp_path):
    with raises_fault("card.file", "card.yaml"):
        read_facts(tmp_path / "card.yaml")
