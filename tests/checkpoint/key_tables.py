"""torchvision's ResNet-50 under the names of detectron2 and Caffe2, from the tables of their files' keys."""

from __future__ import annotations

from torch import Tensor

BLOCKS = (3, 4, 6, 3)
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def detectron2(weights: dict[str, Tensor], frozen: bool) -> dict[str, Tensor]:
    """`frozen`: as FrozenBatchNorm2d saves, without counters."""
    table = {"conv1": "stem.conv1", "bn1": "stem.conv1.norm", "fc": "linear"}
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            ours, theirs = f"layer{stage + 1}.{block}", f"res{stage + 2}.{block}"
            for number in (1, 2, 3):
                table[f"{ours}.conv{number}"] = f"{theirs}.conv{number}"
                table[f"{ours}.bn{number}"] = f"{theirs}.conv{number}.norm"
        table[f"layer{stage + 1}.0.downsample.0"] = f"res{stage + 2}.0.shortcut"
        table[f"layer{stage + 1}.0.downsample.1"] = f"res{stage + 2}.0.shortcut.norm"
    renamed = {f"{table[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in weights.items()}
    return {key: value for key, value in renamed.items() if not (frozen and key.endswith("num_batches_tracked"))}


def caffe2(weights: dict[str, Tensor], fused: bool) -> dict[str, Tensor]:
    """`fused`: norms as a factor and a shift, computed from their statistics."""
    table = {"conv1": "conv1", "bn1": "res_conv1_bn", "fc": "pred"}
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            ours, theirs = f"layer{stage + 1}.{block}", f"res{stage + 2}_{block}_branch"
            for number, letter in ((1, "2a"), (2, "2b"), (3, "2c")):
                table[f"{ours}.conv{number}"] = theirs + letter
                table[f"{ours}.bn{number}"] = f"{theirs}{letter}_bn"
        table[f"layer{stage + 1}.0.downsample.0"] = f"res{stage + 2}_0_branch1"
        table[f"layer{stage + 1}.0.downsample.1"] = f"res{stage + 2}_0_branch1_bn"
    blobs = {}
    for key, value in weights.items():
        module, _, name = key.rpartition(".")
        blob = table[module]
        if not blob.endswith("_bn"):
            blobs[f"{blob}_{name[0]}"] = value
        elif fused and name in ("weight", "bias"):
            scale = weights[f"{module}.weight"] / (weights[f"{module}.running_var"] + 1e-5).sqrt()
            shift = weights[f"{module}.bias"] - weights[f"{module}.running_mean"] * scale
            blobs[f"{blob}_{'s' if name == 'weight' else 'b'}"] = scale if name == "weight" else shift
        elif not fused and name in STATISTICS:
            blobs[f"{blob}_{ {'weight': 'gamma', 'bias': 'beta'}.get(name, name) }"] = value
    return blobs
