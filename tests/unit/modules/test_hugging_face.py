"""Backbones of local directories: equal to transformers' own forward, frozen or trained, no downloads."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.faults import raises_fault
from support.tiny_backbones import BACKBONES, IMAGE_SIZE, MEAN, STD, make_backbone, vision_part
from torch import Tensor

from fairseq_vgs.modules import IMAGE_ENCODERS
from fairseq_vgs.modules.hugging_face import (
    Backbone,
    BackboneError,
    HuggingFaceEncoder,
    backbone_size,
    read_backbone,
)
from fairseq_vgs.settings import SettingError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a backbone asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=BACKBONES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    root = tmp_path_factory.mktemp("backbones")
    return {kind: (root / kind, make_backbone(root / kind, kind)) for kind in BACKBONES}


def config(folder: Path, **settings: Any) -> HuggingFaceEncoder.Settings:
    sizes = {"embed_dim": 16, "layers": 1, "heads": 2, "ffn_dim": 24, "output_dim": 6, "dropout": 0.0}
    sizes |= {"attention_dropout": 0.0, "image_size": IMAGE_SIZE, "backbone": read_backbone(folder)}
    return HuggingFaceEncoder.Settings(**{**sizes, **settings})  # type: ignore[arg-type]


def encoder(folder: Path, **settings: Any) -> Any:
    torch.manual_seed(1)
    built: Any = IMAGE_ENCODERS["hugging_face"](config(folder, **settings))
    built.load_pretrained(folder)
    return built


def pictures(n: int = 3) -> tuple[Tensor, Tensor]:
    """Return bytes `[n, 3, H, W]` and what our loader makes of them."""
    drawn = torch.randint(0, 256, (n, 3, IMAGE_SIZE, IMAGE_SIZE), generator=torch.Generator().manual_seed(2))
    return drawn, drawn / 127.5 - 1.0


def test_equals_transformers_on_the_same_pixels(made: dict[str, tuple[Path, Any]], kind: str) -> None:
    folder, model = made[kind]
    levels, ours = pictures()
    normalized = (levels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    backbone = Backbone(read_backbone(folder)).eval()
    backbone.load_pretrained(folder)
    with torch.no_grad():
        expected = vision_part(model)(pixel_values=normalized)
        pooled, tokens = backbone(ours)
    torch.testing.assert_close(tokens, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    if kind == "vit":  # whose classifier reads the CLS
        cls = expected.last_hidden_state[:, 0]
        torch.testing.assert_close(model.classifier(pooled), model(pixel_values=normalized).logits)
        torch.testing.assert_close(pooled, cls, rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(pooled, expected.pooler_output.flatten(1), rtol=1e-4, atol=1e-5)
    assert pooled.std() > 1e-3


@pytest.mark.parametrize("output", ["pooled", "tokens"])
def test_a_frozen_backbone_is_not_trained(made: dict[str, tuple[Path, Any]], kind: str, output: str) -> None:
    frozen = encoder(made[kind][0], backbone_output=output).train()
    before = {name: value.clone() for name, value in frozen.backbone.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in frozen.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        loss = frozen({"pictures": pictures()[1]}).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not frozen.backbone.training
    assert all(p.grad is None for p in frozen.backbone.parameters())
    assert all(
        p.grad is not None for name, p in frozen.named_parameters() if not name.startswith("backbone.")
    )
    for name, value in frozen.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("output", ["pooled", "tokens"])
def test_a_trained_backbone_has_gradients_wherever_it_matters(
    made: dict[str, tuple[Path, Any]], kind: str, output: str
) -> None:
    trained = encoder(made[kind][0], backbone_output=output, backbone_frozen=False).train()
    assert trained.backbone.training
    trained({"pictures": pictures()[1]}).square().sum().backward()
    without = {name for name, p in trained.named_parameters() if p.grad is None}
    assert without == {name for name, p in trained.named_parameters() if not p.requires_grad}
    assert len(without) < 0.4 * len(list(trained.parameters()))
    first = next(p for p in trained.backbone.parameters() if p.requires_grad)
    assert first.grad is not None and first.grad.abs().sum() > 0


@pytest.mark.parametrize("output", ["pooled", "tokens"])
def test_stored_settings_and_weights_are_enough(
    made: dict[str, tuple[Path, Any]], kind: str, output: str
) -> None:
    """No directory, other fresh weights: the state dictionary alone brings the same embeddings."""
    original = encoder(made[kind][0], backbone_output=output).eval()
    settings = config(made[kind][0], backbone_output=output)
    torch.manual_seed(9)
    again: Any = IMAGE_ENCODERS["hugging_face"](settings).eval()
    inputs = {"pictures": pictures()[1]}
    assert not torch.allclose(again(inputs), original(inputs))
    again.load_state_dict(original.state_dict(), strict=True)
    assert torch.equal(again(inputs), original(inputs))
    assert str(made[kind][0]) not in settings.backbone


def test_size_comes_from_the_preprocessor(made: dict[str, tuple[Path, Any]], kind: str) -> None:
    assert backbone_size(read_backbone(made[kind][0])) == IMAGE_SIZE


def test_the_place_of_a_cell_matters(made: dict[str, tuple[Path, Any]]) -> None:
    """A map's cells get positions: its mirror image gives another embedding."""
    built = encoder(made["convnext"][0], backbone_output="tokens").eval()
    maps = torch.randn(1, 16, 2, 2, generator=torch.Generator().manual_seed(0))
    inputs = {"pictures": torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)}
    embeddings = []
    for fixed in (maps, maps.flip(3)):
        built.backbone = _Fixed(fixed)
        embeddings.append(built(inputs))
    assert not torch.allclose(*embeddings, atol=1e-5)


class _Fixed(torch.nn.Module):
    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self.maps.mean(dim=(2, 3)), self.maps


def changed(made: dict[str, tuple[Path, Any]], target: Path, kind: str, file: str, **values: Any) -> Path:
    """Copy a directory with other values in one of its JSON files."""
    target.mkdir()
    for path in made[kind][0].iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    content = {**json.loads((target / file).read_text()), **values}
    (target / file).write_text(json.dumps({key: value for key, value in content.items() if value != "-"}))
    return target


def test_code_and_foreign_places_in_a_directory_are_left_out(
    made: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    folder = changed(
        made,
        tmp_path / "vit",
        "vit",
        "config.json",
        auto_map={"AutoConfig": "mine.C", "AutoModel": "mine.M"},
        _attn_implementation="somebody/kernels",
        quantization_config={"quant_method": "gptq"},
        _name_or_path="somebody/vit",
    )
    (folder / "mine.py").write_text("raise SystemExit('code of the directory was run')")
    built = encoder(folder)
    assert "somebody" not in read_backbone(folder)
    inputs = {"pictures": pictures()[1]}
    assert torch.equal(built.eval()(inputs), encoder(made["vit"][0]).eval()(inputs))


def test_a_pickle_with_code_is_refused(made: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    folder = changed(made, tmp_path / "vit", "vit", "config.json")
    (folder / "model.safetensors").unlink()
    trap = tmp_path / "was_run"
    torch.save({"a": torch.zeros(1), "b": _Trap(trap)}, folder / "pytorch_model.bin")
    with raises_fault("backbone.unreadable", "vit", error=BackboneError):
        encoder(folder)
    assert not trap.exists()
    torch.save(made["vit"][1].state_dict(), folder / "pytorch_model.bin")
    inputs = {"pictures": pictures()[1]}
    assert torch.equal(encoder(folder).eval()(inputs), encoder(made["vit"][0]).eval()(inputs))


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("file", "values", "code", "place"),
    [
        ("config.json", {"model_type": "no_such"}, "backbone.unknown", "config.json"),
        ("config.json", {"hidden_size": 18}, "backbone.mismatch", "vit"),
        ("preprocessor_config.json", {"image_mean": "-"}, "backbone.missing", "vit"),
        (
            "preprocessor_config.json",
            {"image_std": [1.0, 0.0, 1.0]},
            "backbone.value",
            "preprocessor_config.json",
        ),
        ("preprocessor_config.json", {"image_mean": [1.0]}, "backbone.value", "preprocessor_config.json"),
    ],
)
def test_faulty_directories_are_named(
    made: dict[str, tuple[Path, Any]],
    tmp_path: Path,
    file: str,
    values: dict[str, Any],
    code: str,
    place: str,
) -> None:
    folder = changed(made, tmp_path / "vit", "vit", file, **values)
    with raises_fault(code, place, error=BackboneError):
        encoder(folder)


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("{", "json.syntax", "/config.json: character 2"),
        ("[" * 100_000, "json.syntax", "/config.json"),
        ("[]", "json.kind", "/config.json"),
    ],
)
def test_a_config_that_is_no_object_is_named(
    made: dict[str, tuple[Path, Any]], tmp_path: Path, text: str, code: str, place: str
) -> None:
    folder = changed(made, tmp_path / "vit", "vit", "config.json")
    (folder / "config.json").write_text(text)
    with raises_fault(code, place, error=BackboneError):
        read_backbone(folder)


def test_missing_weights_are_named(made: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    folder = changed(made, tmp_path / "vit", "vit", "config.json", num_hidden_layers=3)
    with raises_fault("backbone.mismatch", "vit", error=BackboneError) as caught:
        encoder(folder)
    assert "16 missing" in str(caught.value)
    assert ".2." in str(caught.value)


def test_an_impossible_size_is_refused_before_training(made: dict[str, tuple[Path, Any]]) -> None:
    with raises_fault("setting.value", "model.image_size", error=BackboneError) as caught:
        encoder(made["vit"][0], image_size=64)
    assert "32" in str(caught.value)
    assert encoder(made["convnext"][0], image_size=64) is not None


def test_absent_directory_and_package_are_named(
    made: dict[str, tuple[Path, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raises_fault("backbone.missing", "vit-base-patch16-224", error=BackboneError):
        read_backbone(tmp_path / "google" / "vit-base-patch16-224")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with raises_fault("package.missing", "hugging_face", error=BackboneError):
        read_backbone(made["vit"][0])
    monkeypatch.undo()
    monkeypatch.setattr("transformers.__version__", "4.57.6")
    with raises_fault("package.version", "hugging_face", error=BackboneError):
        read_backbone(made["vit"][0])


def test_no_backbone_is_refused() -> None:
    with raises_fault("backbone.value", "backbone", error=BackboneError):
        IMAGE_ENCODERS["hugging_face"](HuggingFaceEncoder.Settings())
    with pytest.raises(SettingError) as caught:
        HuggingFaceEncoder.Settings(backbone_output="cls")
    assert (caught.value.name, caught.value.got) == ("backbone_output", "cls")
