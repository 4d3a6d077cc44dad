"""A ResNet-50 on a GPU, here and there: channels_last, bfloat16 by autocast, eager, compiled, and with CUDA graphs.

    python -m benchmarks.gpu --write docs/benchmarks

Each round runs all of a table once, forwards and backwards in turn; times are of the GPU, by its own events.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbone_kit.backbones import ResNet
from backbone_kit.optimize import prepare_for_inference

from . import nets
from .deform_conv import SIZES, Case, Problem

PICTURES = (16, 3, 800, 1344)
BATCHES = (2, 4, 8, 16)
MODES: dict[str, dict[str, Any] | None] = {"eager": None, "compiled": {}, "CUDA graphs": {"mode": "reduce-overhead"}}
RECOMPUTED: dict[str, dict[str, Any]] = {
    "plain": {},
    "with_cp": {"with_cp": True},
    "cheap": {"recompute": "cheap"},
    "6000 MiB": {"recompute": {"budget_mb": 6000}},
}
MIB = 2**20
Rows = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--write", type=Path, help="a folder for gpu.md and gpu.json")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--eager", action="store_true", help="leave out what is compiled")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pictures", type=int, nargs=4, default=PICTURES, metavar=("N", "C", "H", "W"))
    parser.add_argument("--remark", action="append", default=[], help="a sentence for the page")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of libraries that are compiled
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    modes = ["eager"] if arguments.eager else list(MODES)
    x = torch.randn(*arguments.pictures, device="cuda").to(memory_format=torch.channels_last)
    report: dict[str, Any] = {"machine": machine(), "rounds": arguments.rounds, "pictures": arguments.pictures}
    report["remarks"] = arguments.remark
    for part in arguments.parts:
        start = time.perf_counter()
        report[part] = PARTS[part](x, modes, arguments.rounds)
        print(f"# {part}: {time.perf_counter() - start:.0f} s", flush=True)
        torch.compiler.reset()
        torch.cuda.empty_cache()
        _written(report, arguments.write)
    print(markdown(report))


def fine_tuning(x: Tensor, modes: list[str], rounds: int) -> Rows:
    """Stem and first stage frozen, norms on their running statistics."""
    kinds = ("ours", "timm", "torchvision")
    return _steps({kind: partial(nets.as_detectors_train, kind) for kind in kinds}, x, modes, rounds)


def by_batch(x: Tensor, modes: list[str], rounds: int) -> dict[str, Rows]:
    """The same, eager, of fewer pictures: where there is little to do, a step takes as long as Python does."""
    return {str(n): fine_tuning(x[:n], ["eager"], rounds) for n in BATCHES if n <= len(x)}


def training(x: Tensor, modes: list[str], rounds: int) -> Rows:
    """Everything trained, norms on the statistics of the batch."""
    return _steps({"ours": nets.ours, **nets.PEERS}, x, modes, rounds)


def recomputing(x: Tensor, modes: list[str], rounds: int) -> Rows:
    """A step of training as a whole, with less kept."""
    kinds = {name: partial(ResNet, 50, norm_eval=False, **options) for name, options in RECOMPUTED.items()}
    return _steps(kinds, x, ["eager"], rounds)


def inference(x: Tensor, modes: list[str], rounds: int) -> Rows:
    """Weights and maps in bfloat16."""
    x = x.bfloat16()
    runs: dict[str, Callable[[], Any]] = {}
    built = {name: _laid_out(build()).eval().bfloat16() for name, build in {"ours": nets.ours, **nets.PEERS}.items()}
    for name, net in built.items():
        of_net = ["eager"] if name == "torchvision" else modes
        runs |= {f"{name}, {mode}": partial(_in_mode(net, mode), x) for mode in of_net}
    for compiles in (False, True) if "compiled" in modes else (False,):
        kind = "compiled" if compiles else "eager"
        prepared = prepare_for_inference(built["ours"], x, torch.bfloat16, compiled=compiles)  # type: ignore[arg-type]
        runs[f"ours, prepared, {kind}"] = partial(prepared, x)
    with torch.no_grad():
        return milliseconds(runs, rounds)


def deformable(x: Tensor, modes: list[str], rounds: int) -> dict[str, Rows]:
    """The operator alone, float32, modulated, two pictures; torchvision's is a CUDA kernel."""
    found = {}
    for channels, size in (*SIZES, (256, 128)):
        with torch.device("cuda"):
            problem = Problem(Case(channels, size))
        rows: Rows = {}
        for step, backward in (("forward", False), ("forward and backward", True)):
            runs = {name: partial(problem.once, run, backward) for name, run in problem.runs().items()}
            rows |= {f"{name}, {step}": row for name, row in milliseconds(runs, rounds).items()}
        found[str(problem.case)] = rows
    return found


PARTS: dict[str, Callable[[Tensor, list[str], int], Any]] = {
    "fine-tuning": fine_tuning,
    "fine-tuning by batch": by_batch,
    "recomputing": recomputing,
    "deformable": deformable,
    "training": training,
    "inference": inference,
}


def milliseconds(runs: dict[str, Callable[[], Any]], rounds: int) -> Rows:
    """Medians of each run, and of its ratio to the first one in the same round; and the most memory that it takes."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    found: Rows = {}
    for name, run in list(runs.items()):
        try:
            for _ in range(3):  # compiles, chooses kernels, records graphs
                run()
        except RuntimeError as error:
            print(f"# {name}: {error}")
            del runs[name], taken[name]
            continue
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        found[name] = {"peak MiB": (torch.cuda.max_memory_allocated() - before) / MIB}
    for index in range(rounds):
        for name in runs if index % 2 else reversed(list(runs)):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            runs[name]()
            end.record()
            end.synchronize()
            taken[name].append(start.elapsed_time(end))
    first = next(iter(taken.values()))
    for name, times in taken.items():
        found[name]["ms"] = statistics.median(times)
        found[name]["times the first"] = statistics.median(mine / other for mine, other in zip(times, first))
    return found


def _steps(kinds: Mapping[str, Callable[[], nn.Module]], x: Tensor, modes: list[str], rounds: int) -> Rows:
    runs: dict[str, Callable[[], None]] = {}
    for mode in modes:
        for name, build in kinds.items():
            if mode != "eager" and name == "torchvision":  # the same graph as timm's
                continue
            net = _laid_out(build()).train()
            runs[f"{name}, {mode}"] = partial(_step, net, _in_mode(net, mode), x)
    return milliseconds(runs, rounds)


def _step(net: nn.Module, run: Callable[[Tensor], Any], x: Tensor) -> None:
    torch.compiler.cudagraph_mark_step_begin()
    with torch.autocast("cuda", torch.bfloat16):
        maps = run(x)
    sum(y.float().mean() for y in maps).backward()
    for parameter in net.parameters():
        parameter.grad = None


def _in_mode(net: nn.Module, mode: str) -> Callable[[Tensor], Any]:
    options = MODES[mode]
    return net if options is None else torch.compile(net, **options)


def _laid_out(net: nn.Module) -> nn.Module:
    return net.to(device="cuda", memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def machine() -> dict[str, str]:
    """Which card, and what runs on it."""
    libraries = {name: version(name) for name in ("torch", "torchvision", "timm")}
    return {"card": torch.cuda.get_device_name(), "cuDNN": str(torch.backends.cudnn.version()), **libraries}


def markdown(report: Mapping[str, Any]) -> str:
    """All parts that the report has, as a page."""
    about = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    pictures = "×".join(map(str, report["pictures"]))
    titles = {
        "fine-tuning": "A step of fine-tuning, stem and first stage frozen, norms in eval",
        "training": "A step of training as a whole, norms on the batch's statistics",
        "recomputing": "The same with less kept",
        "inference": "Inference, weights in bfloat16",
    }
    lines = [
        "# On a GPU",
        "",
        f"{about}. ResNet-50, {pictures}, channels_last, bfloat16 by autocast. Medians of {report['rounds']} "
        "interleaved rounds; 'times the first' is the ratio to the first row within a round, 'peak' the most memory "
        "that one run takes beside what was there. Made by `python -m benchmarks.gpu`.",
        *(line for remark in report["remarks"] for line in ("", remark)),
    ]
    for part, title in titles.items():
        if part in report:
            lines += ["", f"## {title}", "", "| | ms | times the first | peak, MiB |", "| --- | --: | --: | --: |"]
            for name, row in report[part].items():
                lines.append(f"| {name} | {row['ms']:.2f} | {row['times the first']:.2f} | {row['peak MiB']:.0f} |")
    if "fine-tuning by batch" in report:
        rows = report["fine-tuning by batch"]
        names = list(next(iter(rows.values())))
        lines += ["", "## Fine-tuning by the number of pictures, milliseconds", "", f"| | {' | '.join(names)} |"]
        lines += ["| --- |" + " --: |" * len(names)]
        lines += [
            f"| {n} | {' | '.join(format(row[name]['ms'], '.1f') for name in names)} |" for n, row in rows.items()
        ]
    if "deformable" in report:
        names = list(next(iter(report["deformable"].values())))
        lines += ["", "## Deformable convolution, two pictures, float32, milliseconds", ""]
        lines += [f"| | {' | '.join(names)} |", "| --- |" + " --: |" * len(names)]
        for case, rows in report["deformable"].items():
            cells = [f"{rows[name]['ms']:.2f}" for name in names]
            lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _written(report: Mapping[str, Any], folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (folder / "gpu.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
