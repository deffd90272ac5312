"""Two CPU ranks train as one process does on the whole batch."""

import socket
import subprocess

import pytest
from support.tiny import NO_DROPOUT
from support.train import CHECKOUT, environment, history, train, train_command

from fairseq_vgs.report.probe_log import read_probes


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def train_on_two_ranks(config, run_dir, *overrides, backend="legacy_ddp"):
    port = free_port()
    shared = [
        "distributed_training.distributed_world_size=2",
        "distributed_training.distributed_no_spawn=true",
        f"distributed_training.distributed_init_method=tcp://localhost:{port}",
        "distributed_training.device_id=0",
        "distributed_training.distributed_backend=gloo",
        f"distributed_training.ddp_backend={backend}",
        *overrides,
    ]
    processes = [
        subprocess.Popen(
            train_command(config, run_dir, f"distributed_training.distributed_rank={rank}", *shared),
            cwd=CHECKOUT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]


SETTINGS = [
    "dataset.num_workers=1",
    "optimization.max_update=3",
    "task.length_noise=0.0",
    "dataset.required_batch_size_multiple=1",
    # fairseq's group norm depends on padding: batches of another composition would differ slightly.
    "model.extractor_mode=layer_norm",
    *[f"model.{name}={value}" for name, value in NO_DROPOUT.items()],
    "optimizer.adam_eps=0.001",
]


@pytest.mark.parametrize(
    ("backend", "head"), [("legacy_ddp", "resdavenet"), ("pytorch_ddp", "attention")], ids=lambda value: value
)
def test_vgs_on_two_ranks_equals_one_process(backend, head, small_data, tmp_path):
    """The whole training set is one global batch, so both runs see the same pairs (24 = 2 x 12)."""
    data = f"task.data={small_data}"
    overrides = [
        *SETTINGS,
        "criterion.vgs_loss=infonce",
        "criterion.similarity=cosine",
        "model.vgs_forward=unmasked",
        f"model.speech_head={head}",
        "task.probe_interval=3",
    ]
    extra = ["distributed_training.find_unused_parameters=true"] if backend == "pytorch_ddp" else []
    train("vgs", tmp_path / "one", data, "dataset.batch_size=24", *overrides)
    train_on_two_ranks(
        "vgs", tmp_path / "two", data, "dataset.batch_size=12", *overrides, *extra, backend=backend
    )
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert sorted(one) == sorted(two) == [1, 2, 3]
    for update in one:
        for key in ("vgs_loss", "gnorm", "vgs_speech_to_image_accuracy"):
            assert two[update][key] == pytest.approx(one[update][key], rel=1e-3, abs=1e-4), (update, key)
    valid_one, valid_two = history(tmp_path / "one", "valid")[3], history(tmp_path / "two", "valid")[3]
    assert valid_two["retrieval_images"] == valid_one["retrieval_images"] == 10
    assert valid_two["speech_to_image_r10"] == valid_one["speech_to_image_r10"]
    probes_one, probes_two = (read_probes(tmp_path / name / "probes.jsonl") for name in ("one", "two"))
    assert [probe.update for probe in probes_one] == [0, 3]
    for expected, probe in zip(probes_one, probes_two, strict=True):
        assert probe.gradient_norm_ssl == pytest.approx(expected.gradient_norm_ssl, rel=1e-2)
        assert probe.gradient_norm_vgs == pytest.approx(expected.gradient_norm_vgs, rel=1e-2)
        assert probe.gradient_cosine == pytest.approx(expected.gradient_cosine, abs=1e-2)


def test_draw_uses_one_loss_on_all_ranks(small_data, tmp_path):
    """If the ranks drew differently, the gather would hang or fairseq would find their gradients unequal."""
    train_on_two_ranks(
        "vgs_plus", tmp_path, f"task.data={small_data}", "dataset.batch_size=4",
        "criterion.alpha_schedule=draw", *SETTINGS, "optimization.max_update=7",
    )  # fmt: skip
    updates = history(tmp_path)
    assert {record["alpha"] for record in updates.values()} == {0.0, 1.0}


def test_both_losses_under_pytorch_ddp(small_data, tmp_path):
    """Outputs that the loss leaves out would stop torch's wrapper at the second update."""
    train_on_two_ranks(
        "vgs_plus", tmp_path, f"task.data={small_data}", "dataset.batch_size=6", *SETTINGS,
        "distributed_training.find_unused_parameters=true", backend="pytorch_ddp",
    )  # fmt: skip
    assert {"ssl_loss", "vgs_loss"} <= set(history(tmp_path)[3])
