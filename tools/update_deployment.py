"""Writes docs/deployment.md and docs/deployment.json: one small net of every class compiled, exported and rounded.

`python tools/update_deployment.py 'ResN*'` measures those rows; without a pattern, those that are new or were measured
with other versions. A class takes about ten minutes, most of them int8's and inductor's. It needs the extra `test`, a
C++ compiler and `pip install torchao`.
"""

from __future__ import annotations

import copy
import fnmatch
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the small nets are the tests'

from backbone_kit import BACKBONES, build_backbone  # noqa: E402
from backbone_kit.backbones import Backbone  # noqa: E402
from backbone_kit.export import check_export, export_backbone  # noqa: E402
from backbone_kit.export.backbone import Extent  # noqa: E402
from backbone_kit.finetune import precise_bn  # noqa: E402
from tests.backbones.test_contract import smallest, tiny  # noqa: E402
from tests.backbones.test_peers import randomized, relative_difference  # noqa: E402

PAGE = ROOT / "docs" / "deployment.md"
DATA = ROOT / "docs" / "deployment.json"
SIZE = (96, 128)
HALF = 65504  # the largest number of float16
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "torchao")
SHAPES = ((2, 3, *SIZE), (3, 3, 133, 91), (4, 3, 64, 160))
PLAIN = {"Conv", "Relu", "Add", "MaxPool", "Constant", "Identity"}  # operators of a plain ResNet, and of any graph

_SMALL = dict(type="ResNet", depth=18, layers=(1, 1), num_stages=2, base_channels=8)
# One layer each beside a plain ResNet; what classes bring themselves is in their rows.
LAYERS: Mapping[str, dict[str, Any]] = {
    "DCN": dict(dcn=dict(type="DCN"), stage_with_dcn=(False, True)),
    "DCNv2, 2 groups": dict(dcn=dict(type="DCNv2", deform_groups=2), stage_with_dcn=(False, True)),
    "average pools that round up": dict(avg_down=True, deep_stem=True),
    "ConvWS, GN": dict(conv_cfg=dict(type="ConvWS"), norm_cfg=dict(type="GN", num_groups=2)),
    **{
        str(plugin["type"]): dict(plugins=(dict(cfg=plugin, position="after_conv2"),))
        for plugin in (
            dict(type="ContextBlock", ratio=0.25),
            dict(type="SELayer"),
            dict(type="ECA"),
            dict(type="CBAM"),
            dict(type="SelectiveKernel"),
            dict(type="NonLocal2d"),
            dict(type="GeneralizedAttention", num_heads=2),
            dict(type="GRN"),
        )
    },
}

Cell = float | str


def drawn(net: Backbone) -> Backbone:
    """In eval mode, with nothing left where it starts: offsets and gates drawn, norms with the statistics of noise."""
    torch.manual_seed(0)
    randomized(net)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    precise_bn(net, [pictures((8, 3, *SIZE))])
    return net.eval().requires_grad_(False)


def pictures(shape: Sequence[int] = (2, 3, *SIZE), seed: int = 1) -> Tensor:
    """Noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def compiled(net: Backbone, backend: str) -> float:
    """The difference of one graph for any batch, height and width, on three shapes of pictures."""
    torch.compiler.reset()
    counters.clear()
    run = torch.compile(net, fullgraph=True, dynamic=True, backend=backend)
    difference = max(relative_difference(run(x), net(x)) for x in map(pictures, SHAPES))
    graphs = counters["stats"]["unique_graphs"]
    if graphs != 1:
        raise RuntimeError(f"compiled {graphs} times for {len(SHAPES)} shapes")
    return difference


def exported(net: Backbone, kind: Literal["onnx", "openvino", "export", "aoti"], fixed: Sequence[Extent] = ()) -> float:
    """The difference of a file, where nothing is fixed on pictures of another shape too."""
    suffix = {"onnx": "onnx", "openvino": "xml"}.get(kind, "pt2")
    with tempfile.TemporaryDirectory() as folder:
        file = export_backbone(net, Path(folder, f"net.{suffix}"), kind, size=SIZE, fixed=fixed)
        return max(row.relative for row in check_export(file))


def in_onnx(net: Backbone) -> dict[str, Any]:
    """The difference of the file for any size, and how often operators occur in it that a plain ResNet has not."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        rows = check_export(export_backbone(net, path, "onnx", size=SIZE))
        counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    return {
        "onnx": max(row.relative for row in rows),
        "operators": {name: counts[name] for name in sorted(counts) if name not in PLAIN},
    }


class _Largest(TorchDispatchMode):
    """Keeps the largest absolute value that any operator gives."""

    value = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                self.value = max(self.value, float(x.abs().max()))
        return out


def largest(net: Backbone) -> float:
    """The largest value in a forward in float32."""
    with _Largest() as mode:
        net(pictures())
    return mode.value


def rounded(net: Backbone, dtype: torch.dtype) -> float:
    """How far the maps are off under autocast."""
    with torch.autocast("cpu", dtype=dtype):
        maps = net(pictures())
    return relative_difference([y.float() for y in maps], net(pictures()))


def channels_last(net: Backbone) -> float:
    """How far the maps are off in that layout."""
    moved = copy.deepcopy(net).to(memory_format=torch.channels_last)
    return relative_difference(moved(pictures().to(memory_format=torch.channels_last)), net(pictures()))


def quantized(net: Backbone) -> float:
    """How far the maps are off in int8: weights by channel, maps by ranges seen on other pictures."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    program = torch.export.export(net, (pictures(),), strict=True)  # not strict, calls of one ReLU are taken for one
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    model = prepare_pt2e(program.module(), quantizer)
    for seed in range(2, 6):
        model(pictures(seed=seed))
    return relative_difference(convert_pt2e(model)(pictures()), net(pictures()))


# What is measured of a net, by column: the quick first. Of classes everything, of layers what `FILES` names.
COLUMNS: Mapping[str, Callable[[Backbone], float | dict[str, Any]]] = {
    "largest": largest,
    "bfloat16": lambda net: rounded(net, torch.bfloat16),
    "float16": lambda net: rounded(net, torch.float16),
    "channels_last": channels_last,
    "int8": quantized,
    "onnx": in_onnx,
    "aot_eager": lambda net: compiled(net, "aot_eager"),
    "export": lambda net: exported(net, "export"),
    "onnx_fixed": lambda net: exported(net, "onnx", FIXED),
    "openvino": lambda net: exported(net, "openvino"),
    "openvino_fixed": lambda net: exported(net, "openvino", FIXED),
    "inductor": lambda net: compiled(net, "inductor"),
    "aoti": lambda net: exported(net, "aoti"),
}
FIXED: tuple[Extent, ...] = ("batch", "size")
FILES = ("onnx",)


def cells(column: str, net: Backbone) -> dict[str, Any]:
    """A column's figure, or why there is none."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = COLUMNS[column](net)
    except Exception as error:  # each tool has errors of its own
        found = {column: f"{type(error).__name__}: {' '.join(str(error).split())}"[:250]}
    row = found if isinstance(found, dict) else {column: found}
    return {name: float(f"{value:.2g}") if isinstance(value, float) else value for name, value in row.items()}


def subjects() -> dict[str, Callable[[], Backbone]]:
    """What makes the net of each row."""
    classes = {kind: partial(tiny, kind, norm_eval=False, frozen_stages=-1) for kind in sorted(BACKBONES)}
    return {
        **classes,
        **{name: partial(build_backbone, {**_SMALL, **options}, norm_eval=False) for name, options in LAYERS.items()},
    }


INTRODUCTION = """# Deployment

How one small net of every registered class compiles, exports and rounds. `python tools/update_deployment.py`
measures what is new and writes this page; `tests/test_deployment.py` checks it. Weights are random, offsets and gates
off their start, norms with the statistics of noise; pictures are noise. A figure is the largest difference from eager
in float32, in units of the largest value of a map; the worst map counts. Everything ran on a CPU; of GPUs, and of
runtimes that are not named here, such as TensorRT, nothing is said.

`backbone-kit export` writes these files, and its `--check` gives these figures for a net of yours:

```sh
backbone-kit export resnet50 --format onnx -o resnet50.onnx --check
backbone-kit export cfg.yaml --format openvino -o net.xml --weights net.pth --with-preprocess --check
backbone-kit export cfg.yaml --format aoti -o net.pt2 --fixed size --input-size 800 1344
```

Inputs are called `images`, outputs by level and stride, `layer2_stride8`. A file takes any batch and any height and
width from twice the largest stride on, unless `--fixed` holds some. With `--with-preprocess` it takes uint8 pixels from
0 to 255, (N, 3, H, W) in RGB, and the config's mean, standard deviation and channel order are inside. In Python,
`backbone_kit.export` has `export_backbone` and `check_export`. Deformable convolutions are written in plain operators,
which every runtime has; within `backbone_kit.layers.onnx_deform_conv()` they become ONNX's own `DeformConv`.
"""

ROUNDED = """
## Rounded

The largest value that any operator gives in a forward, where float16 ends at {half}; trained weights have their own.
Autocast in two dtypes; int8 by torchao (PT2E with X86InductorQuantizer, weights by channel, ranges of maps from four
other batches, run as the reference program; a weight that is computed, as SAC's is, is none that it could take);
channels_last in float32.
"""

OPERATORS = """
## What special layers become

The file for any size, traced at 2x3x96x128, run in onnxruntime there and at 3x3x133x91, and its operators beside a
plain ResNet's Conv, Relu, Add and MaxPool; many of them compute sizes. First the classes, then single layers in a plain
ResNet of two stages, with their own differences.
"""

COMPILED = """
## Compiled and exported

`torch.compile(fullgraph=True, dynamic=True)` with the backends aot_eager and inductor, one graph for three shapes of
pictures; then files: `torch.export`, a package of AOTInductor, ONNX in onnxruntime and OpenVINO, each for any batch,
height and width, and the latter two with all of them fixed as well.
"""

TABLES: Mapping[str, tuple[str, ...]] = {
    COMPILED: ("aot_eager", "inductor", "export", "aoti", "onnx", "onnx_fixed", "openvino", "openvino_fixed"),
    ROUNDED: ("largest", "bfloat16", "float16", "int8", "channels_last"),
}
HEADINGS = {
    "export": "torch.export",
    "aoti": "AOTInductor",
    "onnx": "ONNX",
    "onnx_fixed": "ONNX, fixed",
    "openvino": "OpenVINO",
    "openvino_fixed": "OpenVINO, fixed",
    "largest": "largest value",
}


def rendered(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The page."""
    lines = [INTRODUCTION, *measured_with(rows)]
    for text, columns in TABLES.items():
        lines += [text.format(half=HALF), *table(("class", "net", *(HEADINGS.get(c, c) for c in columns)))]
        for name in sorted(rows.keys() & set(BACKBONES)):
            lines.append(line(name, f"`{smallest(name)}`", *(shown(rows[name][column]) for column in columns)))
    lines += [OPERATORS, *table(("class or layer", *(HEADINGS[column] for column in FILES), "operators"))]
    for name, row in rows.items():
        counts = ", ".join(op if n == 1 else f"{op} x{n}" for op, n in row.get("operators", {}).items())
        lines.append(line(name, *(shown(row[column]) for column in FILES), counts))
    reasons = [
        f"- {name}, {HEADINGS.get(column, column)}: {value}"
        for name, row in rows.items()
        for column, value in row.items()
        if isinstance(value, str) and column != "versions"
    ]
    return "\n".join([*lines, "", "## What does not work", "", *(reasons or ["Nothing of the above."]), ""])


def measured_with(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which versions most rows were measured with, and which rows with others."""
    (usual, _), *others = Counter(row["versions"] for row in rows.values()).most_common()
    exceptions = [f"{', '.join(n for n in rows if rows[n]['versions'] == v)}: with {v}." for v, _ in others]
    return [f"Measured with {usual}.", *exceptions]


def table(columns: Sequence[str]) -> list[str]:
    """The head of a table."""
    return [line(*columns), line(*(["---"] * len(columns)))]


def line(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def shown(value: Cell) -> str:
    """A figure, or that there is none."""
    return "no" if isinstance(value, str) else f"{value:g}" if value > 0.5 or not value else f"{value:.0e}"


def main(pattern: str) -> None:
    """Measures the rows that are asked for or, where none are, what is new or was measured with other versions."""
    before: dict[str, dict[str, Any]] = json.loads(DATA.read_text()) if DATA.exists() else {}
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rows: dict[str, dict[str, Any]] = {}
    for name in subjects():
        found = before.get(name, {})
        again = fnmatch.fnmatch(name, pattern) if pattern else found.get("versions") != versions
        if again or found:
            rows[name] = {"versions": versions} if again else found
    for column in COLUMNS:
        for name, row in rows.items():
            if column not in row and (name in BACKBONES or column in FILES):
                row.update(cells(column, drawn(subjects()[name]())))
                print(name, column, row[column], flush=True)
                DATA.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(rendered(rows))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
