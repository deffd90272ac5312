import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import MISSING
from support.faults import raises_fault

from fairseq_vgs.configs import config_dir, embedded_data
from fairseq_vgs.configs.scenarios import SCENARIOS, phases_of, scenario_title
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.study.plan import StudyFolder
from fairseq_vgs.study.read import read_settings, require_files
from fairseq_vgs.study.settings import StudySettings

EXAMPLE = Path(__file__).parents[3] / "examples" / "vgs" / "study.yaml"
GOOD = "data: d\nwhole_updates: 70\nfirst_updates: 20\nsecond_updates: 50\nevaluate_every: 10\n"


def write(folder, text):
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_example_runs_nine_scenarios_with_three_seeds():
    settings = read_settings(EXAMPLE)
    assert tuple(settings.scenarios) == SCENARIOS
    assert settings.seeds == [1, 2, 3]
    # as in the paper, all scenarios are trained for equally long
    assert {settings.updates_of(scenario) for scenario in SCENARIOS} == {settings.whole_updates}


def test_quick_example():
    settings = read_settings(EXAMPLE, quick=True)
    assert settings.scenarios == ["w2v2", "vgs", "vgs_plus", "w2v2_then_vgs", "vgs_then_w2v2"]
    assert settings.seeds == [1]


def test_defaults(tmp_path):
    settings = read_settings(write(tmp_path, GOOD))
    assert settings.config_dir == str(config_dir())
    assert settings.updates_of("vgs") == settings.updates_of("vgs_then_w2v2") == 70


def test_primaries_beside_the_study_file_come_before_the_packages(tmp_path):
    (tmp_path / "vgs.yaml").touch()
    assert read_settings(write(tmp_path, GOOD)).config_dir == str(tmp_path)


def test_quick_is_checked_even_if_it_is_not_asked_for(tmp_path):
    path = write(tmp_path, GOOD + "quick:\n  sedes: [1]\n")
    with raises_fault("study.file", str(path)) as caught:
        read_settings(path)
    assert "sedes" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "sedes: [1]\n", "sedes"),
        ("data: d\n", "whole_updates"),
        ("- 1\n", "settings by name"),
        ("", "data"),
        ("a: [", "study file"),
        ("a: &a [*a]\n", "alias *a must follow its anchor"),
        ("[" * 9999, "levels"),
        (GOOD + "seeds: [one]\n", "one"),
        (GOOD + "seeds: []\n", "seeds must be different entries"),
        (GOOD + "seeds: [1, 1]\n", "seeds must be different entries"),
        (GOOD + "scenarios: [vgs_then_vgs]\n", "scenarios must be one of w2v2"),
        (GOOD.replace("whole_updates: 70", "whole_updates: 75"), "multiple of evaluate_every"),
        (GOOD.replace("first_updates: 20", "first_updates: 70"), "fewer than whole_updates"),
        (GOOD.replace("second_updates: 50", "second_updates: 0"), "at least 1"),
        (GOOD + "warmup_share: 1.5\n", "warmup_share must be"),
        (GOOD + "abx_speakers: [across]\n", "abx_speakers must be"),
        (GOOD + "abx_speakers: [within, between]\n", "abx_speakers must be"),
        (GOOD + "prepare: [scenes, x]\n", "below {output}"),
        (GOOD + "lexical: w\nprepare_lexical: [scenes, w]\n", "lexical must be a path below {output}"),
        (GOOD + "contrasts: [[vgs, vgs_plsu]]\n", "contrasts must be pairs of two different scenarios"),
        (GOOD + "contrasts: [[vgs, vgs]]\n", "contrasts must be"),
        (GOOD + "contrasts: [[vgs]]\n", "contrasts must be"),
        (GOOD + "contrasts: [vgs]\n", "contrasts must be"),
        (GOOD + "scenarios: [vgs, w2v2]\ncontrasts: [[vgs, vgs_plus]]\n", "this study (vgs, w2v2), got"),
    ],
)
def test_faulty_files(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(FaultError) as caught:
        read_settings(path)
    assert said in str(caught.value)
    assert {fault.place for fault in caught.value.faults} == {str(path)}
    assert set(caught.value.codes) <= {"study.file", "setting.value"}


def test_faults_that_follow_from_others_are_not_named(tmp_path):
    path = write(tmp_path, GOOD.replace("whole_updates: 70", "whole_updates: -5"))
    with pytest.raises(FaultError) as caught:
        read_settings(path)
    assert len(caught.value.faults) == 1


def test_wrong_keys_are_all_named_with_the_nearest_and_what_there_is(tmp_path):
    path = write(tmp_path, GOOD + "sedes: [1]\nxyz: 1\nquick:\n  evaluate_evry: 1\n")
    with pytest.raises(FaultError) as caught:
        read_settings(path)
    lines = str(caught.value).splitlines()
    assert [("write seeds" in line, "write evaluate_every" in line) for line in lines] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert all(field.name in line for field in fields(StudySettings) for line in lines)


def test_contrasts_of_the_quick_study_are_checked_against_its_own_scenarios(tmp_path):
    path = write(tmp_path, GOOD + "contrasts: [[vgs, vgs_plus]]\nquick:\n  scenarios: [vgs, w2v2]\n")
    assert read_settings(path).contrasts == [["vgs", "vgs_plus"]]
    with raises_fault("setting.value", str(path)) as caught:
        read_settings(path, quick=True)
    assert len(str(caught.value).splitlines()) == 1
    assert "(vgs, w2v2), got ['vgs', 'vgs_plus']" in str(caught.value)


def test_second_phases_are_set_only_where_a_scenario_has_one(tmp_path):
    without = "data: d\nwhole_updates: 70\nevaluate_every: 10\n"
    assert read_settings(write(tmp_path, without + "scenarios: [vgs, w2v2]\n")).first_updates == 0
    with pytest.raises(FaultError) as caught:
        read_settings(write(tmp_path, without + "scenarios: [vgs_then_w2v2]\n"))
    named = [fault.message.split(" must")[0] for fault in caught.value.faults]
    assert named == ["first_updates", "second_updates"]


def test_every_key_is_documented():
    """docs/study.md has a row for each, and none for another."""
    text = (EXAMPLE.parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    table = text.partition("| key | default |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, flags=re.MULTILINE))
    defaults = {name: json.dumps(value).replace('"', "") for name, value in StudySettings().as_json().items()}
    told = {name: "required" if value == MISSING else f"`{value}`" for name, value in defaults.items()}
    told |= {
        "scenarios": "all nine",
        "config_dir": "the study file's folder, or else the package's",
        "quick": "none",
    }
    assert rows == told


def test_missing_file(tmp_path):
    with raises_fault("study.file", "study.yaml"):
        read_settings(tmp_path / "study.yaml")


def test_titles_are_the_papers():
    titles = [scenario_title(name) for name in SCENARIOS]
    assert titles == [
        "W2V2",
        "VGS",
        "VGS+",
        "(W2V2, VGS+)",
        "(VGS, VGS+)",
        "(W2V2, VGS)",
        "(VGS, W2V2)",
        "(VGS+, W2V2)",
        "(VGS+, VGS)",
    ]


def test_phases():
    assert phases_of("vgs_plus_then_w2v2") == ("vgs_plus", "w2v2")


def test_missing_files_are_named_before_anything_runs(tmp_path):
    (tmp_path / "w2v2.yaml").touch()
    text = GOOD + "scenarios: [w2v2, vgs_then_w2v2]\nabx: no_such_folder\n"
    path = write(tmp_path, text)
    with pytest.raises(FaultError) as caught:
        require_files(read_settings(path), path)
    lines = str(caught.value).splitlines()
    assert [
        name for line in lines for name in ("abx", "config_dir", "data") if f": {name} must name" in line
    ] == [
        "abx",
        "config_dir",
        "config_dir",
        "data",
    ]
    assert set(caught.value.codes) == {"file.missing"}
    assert "w2v2.yaml" not in lines[1].replace("vgs_then_w2v2.yaml", "")
    assert str(tmp_path / "vgs.yaml") in lines[1]  # where the first phase is, which is no scenario here


def test_example_has_its_files(monkeypatch, tmp_path):
    """From whatever folder the study is started."""
    monkeypatch.chdir(tmp_path)
    require_files(read_settings(EXAMPLE), EXAMPLE)


def test_embedded_data_is_named_wherever_it_is(tmp_path):
    text = GOOD.replace("data: d", 'data: "{embedded}"') + 'abx: "{embedded}/abx"\n'
    path = write(tmp_path, text)
    settings = read_settings(path)
    require_files(settings, path)
    assert settings.abx_folder == embedded_data() / "abx"
    assert StudyFolder(tmp_path).data(settings.data) == embedded_data()
    assert settings.as_json()["abx"] == "{embedded}/abx"  # results can be moved
