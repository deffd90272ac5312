import logging
import os

import pytest
import torch

from fairseq_vgs.tasks.host import warn_of_spinning_threads


@pytest.fixture
def host(monkeypatch):
    def set_up(*, load, threads, cores):
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0))
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    return set_up


def test_too_few_cores_for_threads_that_spin(host, caplog):
    host(load=1.0, threads=2, cores=2)
    with caplog.at_level(logging.WARNING):
        assert warn_of_spinning_threads(environment={})
    assert "2 cores" in caplog.text and "OMP_WAIT_POLICY=PASSIVE" in caplog.text


@pytest.mark.parametrize(
    ("load", "threads", "cores", "environment"),
    [
        (0.2, 2, 2, {}),
        (1.0, 2, 4, {}),
        (5.0, 1, 2, {}),
        (5.0, 2, 2, {"OMP_WAIT_POLICY": "PASSIVE"}),
        (5.0, 2, 2, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
    ids=["idle", "cores enough", "one thread", "they sleep", "chosen"],
)
def test_otherwise_nothing_is_said(host, caplog, load, threads, cores, environment):
    host(load=load, threads=threads, cores=cores)
    with caplog.at_level(logging.WARNING):
        assert not warn_of_spinning_threads(environment=environment)
    assert not caplog.records
