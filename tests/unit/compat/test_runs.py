"""What a run takes and gives back: signals, scores, faults of data workers."""

import signal
from types import SimpleNamespace

import pytest
from fairseq import checkpoint_utils

from fairseq_vgs.compat import runs
from fairseq_vgs.compat.runs import Stop


def handlers():
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture
def stop():
    before = {**handlers(), signal.SIGCHLD: signal.getsignal(signal.SIGCHLD)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield Stop()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_noted_and_a_second_interrupts(stop, capfd):
    stop.listen()
    signal.raise_signal(signal.SIGINT)
    assert stop.signal is signal.SIGINT
    assert capfd.readouterr().err.count("SIGINT: finishing this update, then saving a checkpoint") == 1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_another_signal_changes_nothing(stop, capfd):
    """As when the parent of a rank ends, and the system interrupts the rank."""
    stop.listen()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert stop.signal is signal.SIGTERM
    assert capfd.readouterr().err.split()[0] == "SIGTERM:"


def test_after_the_run_signals_mean_what_they_meant(stop):
    before = handlers()
    stop.listen()
    assert handlers() != before
    stop.leave()
    assert handlers() == before


def test_a_program_that_handles_signals_keeps_them(stop):
    def own(*_):
        pass

    signal.signal(signal.SIGTERM, own)
    stop.listen()
    assert signal.getsignal(signal.SIGTERM) is own
    stop.leave()
    assert signal.getsignal(signal.SIGTERM) is own


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 2.5])
def test_a_score_that_is_not_finite_is_not_compared(score, caplog):
    seen = []
    trainer = SimpleNamespace(get_num_updates=lambda: 3)
    cfg = SimpleNamespace(best_checkpoint_metric="loss")
    runs._save(lambda *arguments: seen.append(arguments[-1]), cfg, trainer, None, score)
    assert seen == [score if score == 2.5 else None]
    assert ("loss is" in caplog.text) == (score != 2.5)


def test_the_fault_of_a_data_worker_is_one_line():
    error = RuntimeError(
        "Caught BadItemError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1\n'
        "fairseq_vgs.data.bad_items.BadItemError: train.tsv:2 (a.zip:3:4): must be whole; copy it\n"
    )
    found = runs._fault_of_worker(error)
    assert (found.place, found.message) == ("train.tsv:2 (a.zip:3:4)", "must be whole; copy it")
    assert runs._fault_of_worker(RuntimeError("out of memory")) is None


def test_scores_of_a_former_run_are_forgotten():
    checkpoint_utils.save_checkpoint.best = 3.0
    runs._forget_former_run()
    assert not hasattr(checkpoint_utils.save_checkpoint, "best")


@pytest.mark.parametrize("is_last", [True, False])
def test_the_task_hears_of_the_end_of_its_run(stop, is_last):
    heard = []
    cfg = SimpleNamespace(
        optimization=SimpleNamespace(max_update=4, max_epoch=0), checkpoint=SimpleNamespace(patience=-1)
    )
    trainer, task = (
        SimpleNamespace(get_num_updates=lambda: 2),
        SimpleNamespace(end_run=lambda: heard.append(1)),
    )
    epoch_itr = SimpleNamespace(next_epoch_idx=2)
    assert runs._train(lambda *_: ([1.0], is_last), cfg, trainer, task, epoch_itr) == ([1.0], is_last)
    assert heard == ([1] if is_last else [])
