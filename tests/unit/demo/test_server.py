"""The port is tried before any work; where the page may listen."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support.faults import raises_fault

from fairseq_vgs.demo.server import free_port, quiet_gradio


def test_a_free_port_is_kept_and_a_taken_one_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with raises_fault("server.address", f"127.0.0.1:{port}") as caught:
            free_port("127.0.0.1", port)
        assert "--port" in str(caught.value)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", 0) > 1023


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99_999), ("192.0.2.1", 0), ("no such host.", 0)])
def test_addresses_that_are_not_this_machines(host, port):
    with raises_fault("server.address", f"{host}:{port}") as caught:
        free_port(host, port)
    assert "--host" in str(caught.value)


def test_gradio_is_quiet_and_leaves_no_uploads(monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # restored at the end
    monkeypatch.setenv("no_proxy", "intern")
    pytest.importorskip("gradio")
    with quiet_gradio() as gradio:
        uploads = Path(os.environ["GRADIO_TEMP_DIR"])
        assert uploads.is_dir()
        assert not gradio.analytics.analytics_enabled()
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert "intern" in os.environ["no_proxy"].split(",")
        assert "127.0.0.1" in os.environ["no_proxy"].split(",")
    assert not uploads.exists()
