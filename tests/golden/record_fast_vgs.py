"""Records what the authors' code computes from weights given by a formula: fast_vgs.json.

Needs a clone of their public code, of which this repository holds nothing: scheduled_VGS_plus of
khazarkhorrami (recorded at its commit 44a4b87) or FaST-VGS-Family of jasonppy, both on GitHub. From the
checkout:

    PYTHONPATH=tests python tests/golden/record_fast_vgs.py CLONE
"""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from support.fast_vgs import (
    FRAMES,
    IMAGE_IDS,
    KINDS,
    RESDAVENET_WIDTHS,
    SETTINGS,
    formula_integers,
    inputs,
    mask_indices,
    tensor,
)
from torch import nn

GOLDEN = Path(__file__).with_name("fast_vgs.json")


def load_authors_code(clone: Path) -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import their modules; the widths of ResDAVEnet, fixed in the source, become ours."""
    sys.path.insert(0, str(clone))
    from models import fast_vgs, utils, w2v2_model

    resdavenet = fast_vgs.ResDavenet

    def tiny_resdavenet() -> nn.Module:
        network = resdavenet.__new__(resdavenet)
        nn.Module.__init__(network)
        network.inplanes = RESDAVENET_WIDTHS[0]
        network.linear = nn.Linear(SETTINGS["encoder_embed_dim"], RESDAVENET_WIDTHS[0])
        network.bn1 = nn.BatchNorm2d(RESDAVENET_WIDTHS[0])
        network.relu = nn.ReLU(inplace=True)
        for stage, width in enumerate(RESDAVENET_WIDTHS[1:], 1):
            layer = network._make_layer(fast_vgs.SpeechBasicBlock, width, 2, width=9, stride=2)
            network.add_module(f"layer{stage}", layer)
        return network

    fast_vgs.ResDavenet = tiny_resdavenet
    return fast_vgs, utils, w2v2_model


def build(kind: str, fast_vgs: ModuleType, w2v2_model: ModuleType) -> nn.Module:
    """Build their dual encoder with their defaults and our tiny sizes."""
    parser = argparse.ArgumentParser()
    w2v2_model.Wav2Vec2Model_cls.add_args(parser)
    fast_vgs.DualEncoder.add_args(parser)
    settings = {**vars(parser.parse_args([])), **SETTINGS, **KINDS[kind]}
    model = fast_vgs.DualEncoder(argparse.Namespace(**settings))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({name: tensor(name, shape) for name, shape in shapes.items()})
    return model


def evaluate(model: Any, *, padded: bool) -> dict[str, Any]:
    """Embeddings and features of every layer, in evaluation."""
    model.eval()
    data = inputs(padded=padded)
    with torch.no_grad():
        found = model(data["speech"], data["padding_mask"], data["features"], data["boxes"], test=True)
        speech_encoder, layers = model.conv1_trm1_trm3, []
        used = speech_encoder.encoder.layer_use
        for layer in range(len(speech_encoder.encoder.layers)):
            speech_encoder.encoder.layer_use = layer  # their argument tgt_layer arrives nowhere
            output = speech_encoder(data["speech"], data["padding_mask"], mask=False, features_only=True)
            layers.append(output["layer_feats"][:, list(FRAMES)].tolist())
        speech_encoder.encoder.layer_use = used
    return {"speech_embedding": found[1].tolist(), "image_embedding": found[4].tolist(), "layers": layers}


def train(model: Any, utils: ModuleType, *, padded: bool) -> dict[str, Any]:
    """Both losses, their gradient's norm and batch norm's statistics of one training pass."""
    model.train()
    speech_encoder = model.conv1_trm1_trm3
    quantizer = speech_encoder.quantizer.eval()  # codes without Gumbel noise
    quantizer.train = lambda _: quantizer  # their forward pass calls train() again
    speech_encoder.Compute_Mask_Indices = lambda *_, **__: mask_indices().numpy()
    data = inputs(padded=padded)
    draw, torch.randint = torch.randint, formula_integers
    try:
        _, speech, _, _, image, losses = model(
            data["speech"], data["padding_mask"], data["features"], data["boxes"]
        )
    finally:
        torch.randint = draw
    ids = torch.tensor(IMAGE_IDS).numpy()
    vgs_loss = utils.Margin_InfoNCE_loss(image @ speech.t(), margin=1.0, img_id=ids)
    loss = vgs_loss if not losses else 0.5 * vgs_loss + 0.5 * losses["caption_w2v2_loss"]
    loss.backward()
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return {
        "speech_embedding": speech.tolist(),
        "image_embedding": image.tolist(),
        "vgs_loss": vgs_loss.item(),
        **{name.removeprefix("caption_w2v2_"): value.item() for name, value in losses.items()},
        "gradient_norm": torch.stack(gradients).norm().item(),
        "running_mean": model.conv2.layer4[1].bn2.running_mean.tolist(),
        "running_var": model.conv2.layer4[1].bn2.running_var.tolist(),
    }


def main() -> None:
    """Record both kinds."""
    fast_vgs, utils, w2v2_model = load_authors_code(Path(sys.argv[1]).resolve())
    # Their `x += ...` overwrites what today's torch needs for the gradient of the positional convolution.
    nn.Sequential.forward = _forward_of_a_copy(nn.Sequential.forward)
    golden = {}
    for kind in KINDS:
        shapes = {name: list(v.shape) for name, v in build(kind, fast_vgs, w2v2_model).state_dict().items()}
        golden[kind] = {"shapes": shapes}
        for name, padded in (("whole", False), ("padded", True)):
            golden[kind][name] = {
                "evaluation": evaluate(build(kind, fast_vgs, w2v2_model), padded=padded),
                "training": train(build(kind, fast_vgs, w2v2_model), utils, padded=padded),
            }
    GOLDEN.write_text(json.dumps(golden) + "\n", encoding="utf-8")


def _forward_of_a_copy(forward: Any) -> Any:
    return lambda self, x: forward(self, x.clone())


if __name__ == "__main__":
    main()
