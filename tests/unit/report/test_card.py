"""Model cards: from files alone, readable by the hub, and silent about what nobody has said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from support.abx_material import write_checkpoint, write_recordings
from support.faults import raises_fault
from support.tiny_folder import make_folder

from fairseq_vgs.cli.main import main
from fairseq_vgs.evaluation.results import ResultsError
from fairseq_vgs.files.provenance import sha256_file
from fairseq_vgs.report.card import Facts, read_facts

JUMP = {"alpha_schedule": "piecewise", "alpha_values": [0.0, 0.5], "alpha_boundaries": [3]}
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
    state["cfg"]["criterion"].update(vgs_loss="infonce", **JUMP)
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
    words = "alpha 0 (SSL alone) at first, 0.5 from update 3 on"
    assert f"| last | W2V2, then VGS+ | 7 | {words} |" in text
    assert "starting from `first_phase.pt`, whose training is unknown here" in text
    assert "| `criterion.vgs_loss` | infonce |" in text
    assert "alpha_values" not in text
    assert "elsewhere" not in text


def test_the_scenario_of_two_runs_is_named(run, tmp_path, capsys):
    state = torch.load(run / "checkpoints/checkpoint_best.pt")
    for name, alpha, start in (("first", 0.0, None), ("second", 1.0, str(tmp_path / "first.pt"))):
        state["cfg"]["criterion"] |= {"alpha_schedule": "constant", "alpha_values": [alpha]}
        state["cfg"]["criterion"]["alpha_boundaries"] = []
        state["cfg"]["checkpoint"] = {"finetune_from_model": start}
        if start:
            state["extra_state"] = {"started_from": {"sha256": sha256_file(Path(start)), "n_updates": 7}}
        torch.save(state, tmp_path / f"{name}.pt")
    text = card_of(tmp_path / "second.pt", tmp_path / "hub")
    assert "in the scenario (W2V2, VGS),\n14 updates." in text
    assert "| 1 | W2V2 | 7 | alpha 0 (SSL alone) throughout |" in text
    assert "| 2 | VGS | 7 | alpha 1 (VGS alone) throughout |" in text
    assert str(tmp_path) not in text
    assert f"read from {tmp_path / 'first.pt'}" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["checkpoints/RESULTS", "evaluation", "../RESULTS", "here", "results/run"])
def test_results_are_found_where_commands_write_them(place, run, tmp_path, monkeypatch):
    """Next to the checkpoint, in or next to its run, in the working directory or its folder results."""
    own = tmp_path / "outputs/mine"
    (own / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "checkpoints/checkpoint_best.pt", own / "checkpoints")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    target = Path(place).absolute() if place in ("here", "results/run") else own / place
    target.parent.mkdir(exist_ok=True)
    shutil.copytree(run / "results", target)
    assert card_of(own, tmp_path / "hub").count("12 captions of 6 images") == 1


def test_equal_results_count_once(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run / "results", tmp_path / "run/copy")
    assert card_of(tmp_path / "run", tmp_path / "hub").count("12 captions of 6 images") == 1


def test_a_folder_of_results_may_be_given(run, tmp_path):
    (tmp_path / "all").mkdir()
    for name in ("mine", "other"):
        shutil.copytree(run / "results", tmp_path / "all" / name)
    path = tmp_path / "all/other/metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["checkpoint"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content), encoding="utf-8")
    shutil.copy(run / "checkpoints/checkpoint_best.pt", tmp_path / "model.pt")
    text = card_of(tmp_path / "model.pt", tmp_path / "hub", "--results", str(tmp_path / "all"))
    assert "12 captions of 6 images" in text


def test_a_card_without_results_says_how_to_give_some(tmp_path, capsys):
    text = card_of(write_checkpoint(tmp_path / "model.pt"), tmp_path / "hub")
    assert "This model has not been evaluated." in text
    assert "--results RESULTS" in text
    assert "--force --results RESULTS" in capsys.readouterr().err


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
    assert "has not been evaluated" in text


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


def test_what_mteb_measures_otherwise_is_told_of_models_that_read_pictures(run, tmp_path):
    text = card_of(run, tmp_path / "pixels")
    for part in (
        "`recall_at_k` of image queries is the share",
        "`hit_rate_at_k`",
        "Flickr8k's training split",
    ):
        assert part in text
    assert "MTEB" not in card_of(write_checkpoint(tmp_path / "regions.pt"), tmp_path / "hub")


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


def test_values_of_the_weights_as_they_are_stored(run, tmp_path):
    """Results of an earlier export with the same weights are those of this one."""
    path, data = run / "checkpoints/checkpoint_best.pt", run.parent / "spoken pictures"
    command = ["export", str(path), str(tmp_path / "hub"), "--half"]
    assert main(command) == 0
    results = tmp_path / "results"
    evaluate = ["evaluate", "retrieval", tmp_path / "hub", data, "--baseline", "none", "--output", results]
    assert main(list(map(str, evaluate))) == 0
    assert main([*command, "--results", str(results), "--force"]) == 0
    text = (tmp_path / "hub/README.md").read_text(encoding="utf-8")
    assert "12 captions of 6 images" in text and "untrained" not in text
    assert "stored in half precision" in text
    assert sha256_file(tmp_path / "hub/model.safetensors") in text
    with raises_fault("results.checkpoint", "metrics.json", error=ResultsError):
        main(["export", str(path), str(tmp_path / "whole"), "--results", str(results), "--debug"])


def test_what_trained_it(run, tmp_path):
    (tmp_path / "card.yaml").write_text("command: fairseq-vgs train DATA\n", encoding="utf-8")
    text = card_of(run, tmp_path / "hub", "--card", str(tmp_path / "card.yaml"))
    assert "```bash\nfairseq-vgs train DATA\n```" in text
