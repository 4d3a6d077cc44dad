"""Writes docs/zoo.md and configs/zoo.json: every model name with size, cost, levels, parity and published accuracy.

`python tools/update_zoo.py` measures what is new; with patterns, such as 'resnet*', it measures those names again.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the golden figures are the tests'

from backbone_kit import BACKBONES, build_backbone, build_from_cfg, from_openmmlab, list_backbones, load_checkpoint  # noqa: E402
from backbone_kit.analysis import analyze  # noqa: E402
from backbone_kit.backbones import Backbone  # noqa: E402
from backbone_kit.checkpoint.entry import find_entry  # noqa: E402
from backbone_kit.errors import CheckpointError  # noqa: E402
from backbone_kit.names import named_config  # noqa: E402
from tests import golden  # noqa: E402
from tests.composed import COMPOSED  # noqa: E402

PAGE = ROOT / "docs" / "zoo.md"
DATA = ROOT / "configs" / "zoo.json"
SIDE = 64  # pixels of the pictures on which nets are compared
SCHEMES = ("torchvision", "timm", "resnest", "mmcls")

INTRODUCTION = """# Zoo

Every name that `build_backbone` knows. Parameters are without a classifier, GMACs at 224 x 224 up to the last map,
levels as channels / stride in input pixels. Parity is the largest difference from the origin's maps, relative to the
largest value of a map, both run on the same random weights; with "golden", from figures that the origin computed,
relative to a map's standard deviation. Where no library has a net as such, the origin is put together from other
libraries' nets and layers in `tests/composed.py`, and the row says of which. Accuracy is the published top-1 on
ImageNet-1K of the weights beside it, not measured here. `python tools/update_zoo.py` writes this page.
"""


def facts(name: str) -> dict[str, Any]:
    """What the net is, on the meta device."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = build_backbone(name).eval()
        report = analyze(net)
    return {
        "type": type(net).__name__,
        "params": report.contents.parameters,
        "macs": report.macs,
        "levels": [[info.channels, info.stride] for info in net.feature_info[1:]],
    }


def parity(name: str) -> dict[str, Any]:
    """The difference from the origin, and who that is."""
    torch.manual_seed(0)
    for compare in (with_composed, with_timm, with_resnest, with_golden):
        found = compare(name)
        if found:
            return found
    raise LookupError(
        f"{name} has no origin to be compared with: give it the name that timm has for it, put its origin together in "
        "tests/composed.py, or carry golden figures of a net of its layers in tests/data"
    )


def with_composed(name: str) -> dict[str, Any] | None:
    """Live, with a net put together from other libraries' layers."""
    if name not in COMPOSED:
        return None
    made = COMPOSED[name]()
    randomized(made.net)
    net = build_backbone(name)
    net.load_state_dict(made.state_dict())
    x = picture(96)  # DetectoRS reflects maps at margins of two pixels
    return {"difference": difference(net, [*made.net(x).values()], x), "against": made.made_of}


def with_timm(name: str) -> dict[str, Any] | None:
    """Live, on timm's weights."""
    import timm

    cfg = named_config(name)
    peer_name, options = (cfg["model_name"], {}) if cfg["type"] == "TimmBackbone" else in_timm(name)
    if not timm.is_model(peer_name):
        return None
    peer = randomized(timm.create_model(peer_name, **options))
    net = build_backbone(name)
    load_checkpoint(net, peer.state_dict(), layout="timm" if cfg["type"] != "TimmBackbone" else "auto")
    if cfg["type"] == "HRNet":  # whose classifier goes on behind the branches
        whole, peer = peer, timm.create_model(peer_name, features_only=True, feature_location="")
        peer.load_state_dict(whole.state_dict(), strict=False)
        theirs = peer.eval()(picture())[1:]
    else:
        theirs = [*maps_of_layers(peer, net), peer.forward_features(picture())]
    return {"difference": difference(net, theirs), "against": f"timm {timm.__version__}"}


def in_timm(name: str) -> tuple[str, dict[str, Any]]:
    """What timm calls a net: resnet50_v1c_d8 is resnet50c with output stride 8. It dilates a BasicBlock otherwise."""
    parts = re.fullmatch(r"(resnet\d+)(?:_v1([cd]))?(?:_d(8|16))?", name)
    if not parts or (parts[3] and parts[1] in ("resnet18", "resnet34")):
        return name, {}
    return parts[1] + (parts[2] or ""), {"output_stride": int(parts[3])} if parts[3] else {}


def maps_of_layers(peer: nn.Module, net: Backbone) -> list[Tensor]:
    """What the layers of a peer give that end the stages of ours, where it has layers of these names."""
    maps: list[Tensor] = []
    layers = dict(peer.named_modules())
    for part in net.describe():
        name = part["modules"][-1]
        if part["out_index"] is not None and name in layers:
            layers[name].register_forward_hook(lambda layer, args, out: maps.append(out.clone()))
    peer(picture())
    return maps


def with_resnest(name: str) -> dict[str, Any] | None:
    """Live, on the weights of ResNeSt's authors' package."""
    from importlib.metadata import version

    import resnest.torch as package

    if named_config(name)["type"] != "ResNeSt" or not hasattr(package, name):
        return None
    peer = randomized(getattr(package, name)(pretrained=False))
    net = build_backbone(name)
    load_checkpoint(net, peer.state_dict(), layout="resnest")
    x = peer.maxpool(peer.relu(peer.bn1(peer.conv1(picture()))))
    theirs = []
    for stage in (peer.layer1, peer.layer2, peer.layer3, peer.layer4):
        x = stage(x)
        theirs.append(x)
    return {"difference": difference(net, theirs), "against": f"resnest {version('resnest')}"}


VERSIONS = {"mmdet": "mmdet 3.3.0", "mmseg": "mmseg 1.2.2", "mmpretrain": "mmpretrain 1.2.0"}


def with_golden(name: str) -> dict[str, Any] | None:
    """On figures that an OpenMMLab package computed for a net of the same layers."""
    wanted = layers(on_meta(named_config(name)))
    case = next((case for case in golden_cases() if case["layers"] == wanted), None)
    if case is None:
        return None
    net = build_from_cfg(ours(case), BACKBONES)
    golden.fill(net)
    maps = net.eval()(golden.picture(case["input"]))
    worst = max(golden.difference(a, b) for a, b in zip(maps, case["outputs"]) if "sample" in b)
    return {"difference": worst, "against": f"{VERSIONS[package(case)]}, golden"}


@cache
def golden_cases() -> list[dict[str, Any]]:
    """All that the tests carry and that build under the house's keys, with the layers of ours."""
    found = []
    for path in sorted(golden.DATA.glob("*.json.gz")):
        for case in golden.cases(path.name.removesuffix(".json.gz")):
            source = {"source": path.name.split("_")[0], **case}
            net = on_meta(ours(source))
            if list(net.state_dict()) == list(case["keys"]):
                found.append({**source, "layers": layers(net)})
    return found


def on_meta(cfg: Mapping[str, Any]) -> Backbone:
    """A net without weights, and without a word."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net: Backbone = build_from_cfg({k: v for k, v in cfg.items() if k != "init_cfg"}, BACKBONES)
    return net


def package(case: Mapping[str, Any]) -> str:
    """Which package computed it."""
    return str(case["source"]).removesuffix("_options")


def ours(case: Mapping[str, Any]) -> dict[str, Any]:
    """Its config as ours."""
    return from_openmmlab(case["cfg"], package(case))


def layers(net: nn.Module) -> list[str]:
    """A net's layers, each with its name and all that it prints of itself."""
    return [
        f"{path} {module}".replace("SyncBatchNorm", "BatchNorm2d")
        for path, module in net.named_modules()
        if not [*module.children()]
    ]


def randomized(peer: nn.Module) -> nn.Module:
    """Norms and scales off their start, and nothing zero, so that a layer that is skipped or swapped shows."""
    generator = torch.Generator().manual_seed(0)
    for layer in peer.modules():
        for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            if name in ("weight", "gamma", "running_var") and tensor.ndim == 1:
                nn.init.uniform_(tensor, 0.5, 1.5 if name == "running_var" else 1.0, generator=generator)
            elif tensor.ndim == 1:
                nn.init.normal_(tensor, std=0.1, generator=generator)
            elif tensor.ndim > 1 and not tensor.any():
                nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5, generator=generator)
    return peer.eval()


def picture(side: int = SIDE) -> Tensor:
    """What nets are compared on."""
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def difference(net: Backbone, theirs: list[Tensor], x: Tensor | None = None) -> float:
    """The largest difference over all maps that the origin gives too, the last among them, relative to its map."""
    found: list[float | None] = []
    for map_ in net.eval()(picture() if x is None else x):
        same = [other for other in theirs if other.shape == map_.shape]
        found.append(min((float((map_ - o).abs().max() / o.abs().max()) for o in same), default=None))
    if found[-1] is None:
        raise LookupError(
            f"the origin gives no map of shape {tuple(map_.shape)}, only {[tuple(t.shape) for t in theirs]}"
        )
    return max(value for value in found if value is not None)


def accuracy(name: str) -> dict[str, Any] | None:
    """The published top-1 of the weights that a name means, and those weights."""
    for scheme in SCHEMES:
        try:
            entry = find_entry(f"{scheme}://{name}")
        except CheckpointError:
            continue
        for metrics in (entry.metrics or {}).values():
            for metric, value in metrics.items():
                if metric.lower().replace(" ", "") in ("acc@1", "top1accuracy", "top-1accuracy", "top1"):
                    return {"top1": value, "weights": entry.name}
    return None


def rendered(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The page."""
    lines = [INTRODUCTION]
    kinds = sorted({row["type"] for row in rows.values()}, key=str.lower)
    for kind in kinds:
        lines += [f"## {kind}", ""]
        lines += ["| name | M params | GMACs | levels | parity | against | top-1 |", "| --- |" + " --- |" * 6]
        lines += [_line(name, row) for name, row in rows.items() if row["type"] == kind]
        lines.append("")
    return "\n".join(lines)


def _line(name: str, row: Mapping[str, Any]) -> str:
    levels = ", ".join(f"{channels} / {stride}" for channels, stride in row["levels"])
    top1 = f"{row['top1']:.2f} ({row['weights']})" if row.get("top1") else ""
    cells = (
        f"`{name}`",
        f"{row['params'] / 1e6:.2f}",
        f"{row['macs'] / 1e9:.2f}",
        levels,
        f"{row['difference']:.1e}",
        row["against"],
    )
    return f"| {' | '.join(cells)} | {top1} |".replace("|  |", "| |")


def main(patterns: list[str]) -> None:
    """Measures what is asked for or new, and writes data and page."""
    rows: dict[str, dict[str, Any]] = json.loads(DATA.read_text()) if DATA.exists() else {}
    names = list_backbones()
    rows = {name: rows[name] for name in names if name in rows}
    failed = []
    for name in names:
        if not (any(fnmatch.fnmatch(name, pattern) for pattern in patterns) if patterns else name not in rows):
            continue
        try:
            with torch.no_grad():
                rows[name] = {**facts(name), **parity(name), **(accuracy(name) or {})}
        except Exception as error:  # one that fails is said, and the others are measured
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            failed.append(name)
            continue
        print(f"{name}: {rows[name]['difference']} against {rows[name]['against']}", flush=True)
        DATA.write_text("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(rows[n])}" for n in sorted(rows)) + "\n}\n")
    PAGE.write_text(rendered(dict(sorted(rows.items()))))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
