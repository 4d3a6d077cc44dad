"""The command line that the examples share."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from checkpoints import read
from drawing import draw
from settings import read_settings
from shapes_data import Shapes
from torchvision.transforms.functional import to_pil_image
from training import Measure, evaluate, in_words, predict, train

from backbone_kit import CheckpointError, ConfigError, Registry
from backbone_kit.config import parse_override
from backbone_kit.errors import located
from backbone_kit.finetune import what_trains


def main(part: str, registry: Registry, measure: Measure, argv: Sequence[str] | None = None) -> int:
    """Trains what a config describes, measures its best checkpoint on new pictures, and draws what that sees.

    Args:
        part: 'detector' or 'head', the section of the config that names what stands on the backbone.
        registry: The classes that it may name.
        measure: From predictions and targets to figures.
        argv: The arguments; None means those of the process.

    Returns:
        The exit code: 0, 2 where the user did something wrong, which is one message, and 130 where the run was stopped.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--cfg", required=True, help="a config file, such as those in examples/configs")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="values in place of the file's"
    )
    parser.add_argument(
        "--work-dir", type=Path, help="where checkpoints and pictures go; runs/NAME-OF-CFG if not given"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in the work dir")
    parser.add_argument("--device", type=_device, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    folder = args.work_dir or Path("runs", Path(args.cfg).stem)
    try:
        return _run(args, folder, part, registry, measure)
    except (ConfigError, CheckpointError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; --resume goes on from the last step that {folder / 'last.pth'} has", file=sys.stderr)
        return 130


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"cannot be used: {str(error).splitlines()[0]}") from error
    return name


def _run(args: argparse.Namespace, folder: Path, part: str, registry: Registry, measure: Measure) -> int:
    settings = read_settings(args.cfg, dict(map(parse_override, args.cfg_options)), part, registry)
    if not args.resume and (folder / "last.pth").exists():
        raise ConfigError(f"{folder} has a run: go on with it by --resume, or choose another --work-dir")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.training.seed)
    with located(part):
        model = settings.model.build(settings.cfg, settings.data.size).to(args.device)
    print(what_trains(model), flush=True)
    start, start_cpu = time.perf_counter(), time.process_time()
    train(model, settings, folder, measure, args.resume)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    model.load_state_dict(read(folder / "best.pth"))
    figures = in_words(evaluate(model, settings, "test", measure))
    print(f"best checkpoint, {settings.data.test_pictures} new pictures: {figures}")
    print(f"trained in {seconds:.0f} s, {cpu_seconds:.0f} s of processor time")
    pictures = [picture for picture, _ in Shapes(settings.data, "test", 6)]
    to_pil_image(draw(pictures, predict(model, pictures))).save(folder / "predictions.png")
    print(f"drawn: {folder / 'predictions.png'}")
    return 0
