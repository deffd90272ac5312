from fairseq_vgs.configs.scenarios import SCENARIOS
from fairseq_vgs.study.plan import plan_runs, points_of
from fairseq_vgs.study.settings import StudySettings


def settings(**changes):
    updates = {"whole_updates": 70, "first_updates": 20, "second_updates": 50, "evaluate_every": 10}
    return StudySettings(data="d", config_dir="c", **updates, **changes)


def test_nine_scenarios_share_three_base_runs():
    runs = plan_runs(settings(seeds=[1, 2]))
    assert len(runs) == 2 * len(SCENARIOS)
    assert len({run.name for run in runs}) == len(runs)
    assert sum(run.max_update for run in runs) == 2 * (3 * 70 + 6 * 50)


def test_second_phase_starts_from_the_base_run_of_its_seed():
    by_name = {run.name: run for run in plan_runs(settings(seeds=[3]))}
    run = by_name["vgs_plus_then_w2v2-seed3"]
    assert (run.primary, run.seed) == ("vgs_plus_then_w2v2", 3)
    assert (run.start, run.start_update) == ("vgs_plus-seed3", 20)
    assert (run.max_update, run.schedule_updates) == (50, 50)


def test_every_start_comes_before_what_starts_from_it():
    seen = set()
    for run in plan_runs(settings()):
        assert run.start is None or run.start in seen
        seen.add(run.name)


def test_base_that_is_only_left_stops_there_on_the_whole_schedule():
    runs = plan_runs(settings(scenarios=["w2v2_then_vgs"], seeds=[1]))
    assert [run.name for run in runs] == ["w2v2-seed1", "w2v2_then_vgs-seed1"]
    assert (runs[0].max_update, runs[0].schedule_updates) == (20, 70)


def test_points_include_the_end():
    runs = plan_runs(settings(scenarios=["vgs"], seeds=[1]))
    assert points_of(runs[0], settings()) == [10, 20, 30, 40, 50, 60, 70]
