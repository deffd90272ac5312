"""Damaged checkpoints: refused by name, or with the outputs of the whole file; settings run no code."""

from __future__ import annotations

import functools
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf
from support.mutate import Draws, Kind, agree, attempt, mutate_bytes
from support.tiny import tiny_model, tiny_sample
from support.wav2vec2_files import SMALL, new_state, old_state, stock_model

from fairseq_vgs.checkpoints.imports.wav2vec2 import read_fairseq
from fairseq_vgs.checkpoints.load import STOCK_NAME, load_checkpoint, read_config, read_updates, section
from fairseq_vgs.compat import fixes

MARK = "ran-as-code"
ODD = (
    -1, 0, 1, 3, 10**6, 10**9, 2**63, 10**40, -(10**9), 0.5, float("nan"), float("inf"), None, True, "",
    "x", "1e9", [], [1], {}, {"a": 1}, "${oc.env:HOME}", "[(1, 1, 1)] * 64 * 64 * 64 * 64",
    "[(512, 10, 5)] * 9**9",
    f"open({MARK!r}, 'w')", f"[open({MARK!r}, 'w') and (16, 10, 5)]", f"__import__('os').mkdir({MARK!r})",
    "lambda: 0", "{" * 300, "(" * 3000, "gelu", "vgs_wav2vec2", "wav2vec2", "wav2vec", "hubert", "é" * 50,
)  # fmt: skip


HISTORY = {
    "optimizer_history": [
        {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 42}
    ],
    "last_optimizer_state": None,
    "extra_state": {"train_iterator": {"epoch": 1}},
}


def kind() -> Kind:
    """Return the kind with checkpoints of ours and of fairseq's wav2vec 2.0."""
    fixes.apply()
    model = tiny_model(seed=3).eval()
    settings = OmegaConf.to_container(OmegaConf.structured(model.cfg), resolve=True, enum_to_str=True)
    ours = {
        "args": None,
        "cfg": {
            "common": {"seed": 5},
            "task": {"_name": "vgs_pretraining", "data": "somewhere"},
            "criterion": {"_name": "vgs_multitask", "similarity": "cosine"},
            "model": {**settings, "_name": "vgs_wav2vec2"},
        },
        "model": model.state_dict(),
        **HISTORY,
    }
    stock = stock_model(SMALL)
    originals = {
        "bytes ours.pt": saved(ours),
        "bytes stock.pt": saved(new_state(stock, SMALL) | HISTORY),
        "pickle ours.pt": saved(ours),
        "settings ours.pt": saved(ours),
        "settings stock.pt": saved(old_state(stock, SMALL) | HISTORY),
    }
    return Kind(originals, mutate, read, max_seconds=10, max_bytes=1 << 30)


def saved(state: Any) -> bytes:
    """Return a torch file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def mutate(name: str, content: bytes, draws: Draws) -> bytes:
    """Damage the file's bytes, its pickle (with a true checksum), or a setting."""
    how = name.split()[0]
    if how == "bytes":
        return mutate_bytes(content, draws)
    if how == "settings":
        state = torch.load(io.BytesIO(content), weights_only=True)
        for _ in range(draws.integers(1, 3)):
            _set_odd(state, draws)
        return saved(state)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            part = old.read(entry)
            new.writestr(entry, mutate_bytes(part, draws) if entry.filename.endswith("data.pkl") else part)
    return buffer.getvalue()


def _set_odd(state: dict[str, Any], draws: Draws) -> None:
    """Give a setting, a section or an entry an odd value, or take a tensor's place."""
    odd = ODD[draws.integers(len(ODD))]
    sections = [state, state["model"]]
    if isinstance(state.get("cfg"), dict):
        # most often the model's own settings
        sections += [state["cfg"], *(part for part in state["cfg"].values() if isinstance(part, dict))]
        sections += [state["cfg"]["model"]] * 12 if isinstance(state["cfg"].get("model"), dict) else []
    elif state.get("args") is not None:
        sections += [vars(state["args"])] * 12
    sections = [part for part in sections if isinstance(part, dict) and part]
    part = sections[draws.integers(len(sections))]
    part[list(part)[draws.integers(len(part))]] = odd


def _model(kind: str) -> torch.nn.Module:
    return tiny_model(seed=3).eval() if kind == "ours" else stock_model(SMALL)


@functools.cache
def _outputs(kind: str) -> list[torch.Tensor]:
    return outputs(_model(kind))


@functools.cache
def _weights(kind: str) -> dict[str, torch.Tensor]:
    return _model(kind).state_dict()


@torch.no_grad()
def outputs(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return what a model makes of fixed speech and pictures."""
    inputs = tiny_sample()["net_input"]
    if hasattr(model, "encode_speech"):
        return [
            model.encode_speech(inputs["source"], inputs["padding_mask"]),
            model.encode_image(inputs["image"]),
        ]
    return [model.extract_features(inputs["source"], inputs["padding_mask"])["x"]]


_number = iter(range(10**9))


def read(name: str, content: bytes, folder: Path) -> str:
    """Load a checkpoint for evaluation, for training, for import and for its settings alone."""
    how, which = name.removesuffix(".pt").split()
    # a name of its own: what was verified once under one name is not verified again
    path = folder / f"{next(_number)}.pt"
    path.write_bytes(content)
    _hooked()
    _ran.clear()
    try:
        found, error = attempt(load_checkpoint, path, allow_stock=True)
        state, training_error = attempt(checkpoint_utils.load_checkpoint_to_cpu, str(path))
        config, config_error = attempt(read_config, path)
        n_updates, _ = attempt(read_updates, path)
        attempt(read_fairseq, path)
        agree("a setting ran as code", holds=not _ran and not Path(MARK).exists(), ran=_ran[:2])
    finally:
        path.unlink()
    if how == "bytes":
        agree("training refuses what evaluation loads", holds=error is not None or training_error is None)
        if state is not None:
            whole = _weights(which)
            same = all(torch.equal(state["model"][key], value) for key, value in whole.items())
            agree("training loads other weights", holds=state["model"].keys() == whole.keys() and same)
        if error is None:
            model = found.model
            same = all(torch.equal(*pair) for pair in zip(outputs(model), _outputs(which), strict=True))
            agree("other outputs", holds=same)
            if which == "ours":
                whole = (found.n_updates, found.similarity, section(config, "task").get("data"))
                agree("other settings", holds=whole == (42, "cosine", "somewhere"), found=whole)
        if config_error is None and which == "ours":
            known = {"similarity": "cosine", "_name": "vgs_multitask"}
            agree("other settings alone", holds=section(config, "criterion") == known, found=config)
            agree("other updates alone", holds=n_updates in (42, None), found=n_updates)
    if error is not None:
        raise error
    kind = section(found.config, "model").get("_name")
    return f"{how} {'stock' if kind == STOCK_NAME else 'ours'}"


_ran: list[str] = []


@functools.cache
def _hooked() -> None:
    sys.addaudithook(_listen)


def _listen(event: str, args: tuple[Any, ...]) -> None:
    """Note what a setting that runs would do."""
    if event in ("os.system", "subprocess.Popen"):
        _ran.append(event)
    elif event in ("open", "os.mkdir") and args[0] == MARK:  # torch makes folders of its own at first use
        _ran.append(f"{event} {args[0]}")
    elif (
        event == "compile"
        and isinstance(args[0], str | bytes)
        and MARK in str(args[0])
        and args[1] == "<string>"
    ):
        _ran.append("compile")
