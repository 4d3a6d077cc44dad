"""Caffe2's keys, which Detectron and the MSRA files have: flat names, and batch norms fused into a factor and a shift.

A fused norm is here a batch norm whose statistics do nothing: mean 0, and a variance that its epsilon fills up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..table import Layout, Rule, Table

BN_FUSED = {"weight": "bn_s", "bias": "bn_b"}
BN = {
    "weight": "bn_gamma",
    "bias": "bn_beta",
    "running_mean": "bn_running_mean",
    "running_var": "bn_running_var",
}
GN = {"weight": "gn_s", "bias": "gn_b"}
IDENTITY = {"running_mean": 0.0, "running_var": 1 - 1e-5}

CONVS = (
    Rule("conv1.weight", "conv1_w"),
    Rule("conv1.bias", "conv1_b"),
    Rule("layer{s}.{j}.conv{i}.weight", "res{s+1}_{j}_branch2{i:abc}_w"),
    Rule("layer{s}.{j}.downsample.0.weight", "res{s+1}_{j}_branch1_w"),
)
NORMS = (
    ("layer{s}.{j}.bn{i}", "res{s+1}_{j}_branch2{i:abc}"),
    ("layer{s}.{j}.downsample.1", "res{s+1}_{j}_branch1"),
)


def _table(family: str, stem: str, names: Mapping[str, str], constants: Mapping[str, float] | None = None) -> Table:
    norms = (("bn1", stem), *NORMS)
    return Table(
        family,
        (("conv1.weight", "conv1_w"), ("bn1.weight", f"{stem}_{names['weight']}")),
        CONVS + tuple(Rule(f"{o}.{ours}", f"{t}_{theirs}") for o, t in norms for ours, theirs in names.items()),
        heads=(Rule("fc.weight", "pred_w"), Rule("fc.bias", "pred_b")),
        constants=tuple((f"{o}.{name}", value) for o, _ in norms for name, value in (constants or {}).items()),
    )


LAYOUT = Layout(
    "caffe2",
    "Caffe2's and Detectron's",
    (
        _table("ResNet with fused norms", "res_conv1", BN_FUSED, IDENTITY),
        _table("ResNet with group norms", "conv1", GN),
        _table("ResNet", "res_conv1", BN),
    ),
)
