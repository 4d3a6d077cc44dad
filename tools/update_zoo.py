"""Writes docs/zoo.md and configs/zoo.json: every model name with size, cost, levels, parity and published accuracy.

`python tools/update_zoo.py` measures what is new; `python tools/update_zoo.py 'resnet*'` measures those names again.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
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

PAGE = ROOT / "docs" / "zoo.md"
DATA = ROOT / "configs" / "zoo.json"
SIDE = 64  # pixels of the pictures on which nets are compared
SCHEMES = ("torchvision", "timm", "resnest", "mmcls")

INTRODUCTION = """# Zoo

Every name that `build_backbone` knows. Parameters are without a classifier, GMACs at 224 x 224 up to the last map,
levels as channels / stride in input pixels. Parity is the largest difference from the origin's maps, relative to the
largest value of a map, both run on the same random weights; with "golden", from figures that the origin computed,
relative to a map's standard deviation. "As" names the net that was compared in its place: one of the same class that
differs in depth, or the net that an added layer, which has its own comparison in `tests/layers`, was added to. Accuracy
is the published top-1 on ImageNet-1K of the weights beside it, not measured here. `python tools/update_zoo.py` writes
this page.
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


WITHOUT_ORIGIN = {"ghost_resnet50*": "its Ghost convolutions: timm's, tests/layers/test_ghost.py"}


def parity(name: str) -> dict[str, Any]:
    """The difference from the origin, and who that is."""
    for pattern, reason in WITHOUT_ORIGIN.items():
        if fnmatch.fnmatch(name, pattern):
            return {"difference": None, "against": reason}
    for compare in (with_timm, with_resnest, with_golden):
        found = compare(name)
        if found:
            return found
    raise LookupError(f"{name} has no origin to be compared with; say in WITHOUT_ORIGIN what checks its numbers")


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
    """On figures that an OpenMMLab package computed: for this net, or for the nearest of its class."""
    cfg = dict(named_config(name))
    wanted = set(signature(dict(cfg)))
    kinds = (cfg["type"], cfg["type"].replace("NeXt", "Net"))
    found = [case for case in golden_cases() if case["cfg"]["type"] in kinds]
    if not found:
        return None
    case = max(found, key=lambda case: overlap(wanted, set(signature(ours(case)))))
    net = build_from_cfg(ours(case), BACKBONES)
    golden.fill(net)
    maps = net.eval()(golden.picture(case["input"]))
    worst = max(golden.difference(a, b) for a, b in zip(maps, case["outputs"]) if "sample" in b)
    row = {"difference": worst, "against": f"{VERSIONS[package(case)]}, golden"}
    if set(signature(ours(case))) != wanted:
        row["as"] = said(case["cfg"])
    return row


@cache
def golden_cases() -> list[dict[str, Any]]:
    """All that the tests carry and that build under the house's keys."""
    found = []
    for path in sorted(golden.DATA.glob("*.json.gz")):
        for case in golden.cases(path.name.removesuffix(".json.gz")):
            source = {"source": path.name.split("_")[0], **case}
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net = build_from_cfg(ours(source), BACKBONES)
            if list(net.state_dict()) == list(case["keys"]):
                found.append(source)
    return found


def package(case: Mapping[str, Any]) -> str:
    """Which package computed it."""
    return str(case["source"]).removesuffix("_options")


def ours(case: Mapping[str, Any]) -> dict[str, Any]:
    """Its config as ours."""
    return from_openmmlab(case["cfg"], package(case))


def signature(cfg: dict[str, Any]) -> Iterable[str]:
    """The net's layers, each with its name and all that it prints of itself."""
    cfg.pop("init_cfg", None)
    cfg.pop("out_indices", None)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = build_from_cfg(cfg, BACKBONES)
    return [
        f"{path} {module}".replace("SyncBatchNorm", "BatchNorm2d")
        for path, module in net.named_modules()
        if not [*module.children()]
    ]


def overlap(a: set[str], b: set[str]) -> float:
    """Shared layers over all layers."""
    return len(a & b) / len(a | b)


def said(cfg: Mapping[str, Any]) -> str:
    """A config in a phrase."""
    left_out = ("init_cfg", "norm_eval", "frozen_stages", "out_indices", "num_stages", "type", "with_cp")
    rest = {key: value for key, value in cfg.items() if key not in left_out}
    return f"{cfg['type']} {json.dumps(rest, separators=(', ', ': '))}".replace('"', "")


def randomized(peer: nn.Module) -> nn.Module:
    """Norms off their start, so that one that is skipped or swapped shows."""
    generator = torch.Generator().manual_seed(0)
    for layer in peer.modules():
        if isinstance(getattr(layer, "running_mean", None), Tensor):
            for tensor, draw in (("weight", (0.5, 1.0)), ("running_var", (0.5, 1.5))):
                if isinstance(getattr(layer, tensor, None), Tensor):
                    nn.init.uniform_(getattr(layer, tensor), *draw, generator=generator)
            for tensor in ("bias", "running_mean"):
                if isinstance(getattr(layer, tensor, None), Tensor):
                    nn.init.normal_(getattr(layer, tensor), std=0.1, generator=generator)
    return peer.eval()


def picture() -> Tensor:
    """What nets are compared on."""
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def difference(net: Backbone, theirs: list[Tensor]) -> float:
    """The largest difference over all maps that the origin gives too, the last among them, relative to its map."""
    found: list[float | None] = []
    for map_ in net.eval()(picture()):
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
    against = row["against"] + (f"; as {row['as']}" if "as" in row else "")
    top1 = f"{row['top1']:.2f} ({row['weights']})" if row.get("top1") else ""
    difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
    cells = (
        f"`{name}`",
        f"{row['params'] / 1e6:.2f}",
        f"{row['macs'] / 1e9:.2f}",
        levels,
        difference,
        against,
    )
    return f"| {' | '.join(cells)} | {top1} |".replace("|  |", "| |")


def main(pattern: str | None) -> None:
    """Measures what is asked for or new, and writes data and page."""
    rows: dict[str, dict[str, Any]] = json.loads(DATA.read_text()) if DATA.exists() else {}
    names = list_backbones()
    rows = {name: rows[name] for name in names if name in rows}
    asked: Callable[[str], bool] = lambda name: fnmatch.fnmatch(name, pattern) if pattern else name not in rows  # noqa: E731
    for name in filter(asked, names):
        try:
            with torch.no_grad():
                rows[name] = {**facts(name), **parity(name), **(accuracy(name) or {})}
        except Exception as error:  # one that fails is said, and the others are measured
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            continue
        print(f"{name}: {rows[name]['difference']} against {rows[name]['against']}", flush=True)
        DATA.write_text("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(rows[n])}" for n in sorted(rows)) + "\n}\n")
    PAGE.write_text(rendered(dict(sorted(rows.items()))))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
