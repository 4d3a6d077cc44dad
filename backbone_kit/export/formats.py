"""The formats: how an exported program becomes a file, and how that file runs."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import ConfigError

INPUT = "images"
Run = Callable[[Tensor], Sequence[Tensor]]


class Task(NamedTuple):
    """One file to write.

    Attributes:
        program: The backbone.
        path: A new file.
        axes: Names of the input's axes that may have any size, by their position.
        outputs: Names of the maps.
        opset: Of ONNX; None: the exporter's own.
    """

    program: ExportedProgram
    path: Path
    axes: dict[int, str]
    outputs: list[str]
    opset: int | None


class Format(NamedTuple):
    """One kind of file.

    Attributes:
        suffix: What its files end with.
        runtime: The package that runs it.
        packages: Those that write it.
        write: Writes the file, and others beside it where the format has several.
        load: From a file to a function of a batch of pictures.
    """

    suffix: str
    runtime: str
    packages: tuple[str, ...]
    write: Callable[[Task], None]
    load: Callable[[Path], Run]


def _write_onnx(task: Task) -> None:
    onnx = torch.onnx.export(
        task.program,
        dynamic_shapes=(task.axes,) if task.axes else None,
        input_names=[INPUT],
        output_names=task.outputs,
        opset_version=task.opset,
        dynamo=True,
        verbose=False,
    )
    assert onnx is not None
    written = onnx.model.opset_imports[""]
    if task.opset not in (None, written):  # what cannot be converted is left as it was, and said in the log alone
        cure = f"leave it out, or take one nearer to {written}"
        raise ConfigError(
            f"the net becomes opset {written}, which cannot be converted to {task.opset}; {cure}", ("opset",)
        )
    onnx.save(task.path)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(y) for y in session.run(None, {INPUT: images.cpu().numpy()})]


def _write_openvino(task: Task) -> None:
    import openvino

    model = openvino.convert_model(task.program)
    for port, name in zip([*model.inputs, *model.outputs], [INPUT, *task.outputs], strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(model, task.path, compress_to_fp16=False)


def _load_openvino(path: Path) -> Run:
    import openvino

    # By itself the CPU's plugin computes in bfloat16 where the processor can.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: [torch.from_numpy(y.copy()) for y in compiled([images.cpu().numpy()]).values()]


def _write_program(task: Task) -> None:
    torch.export.save(task.program, task.path)


def _load_program(path: Path) -> Run:
    module: Run = torch.export.load(path).module()
    return module


def _write_package(task: Task) -> None:
    from torch import _inductor

    _inductor.aoti_compile_and_package(task.program, package_path=str(task.path))


def _load_package(path: Path) -> Run:
    from torch import _inductor

    package: Run = _inductor.aoti_load_package(str(path))
    return package


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", "onnxruntime", ("onnx", "onnxscript"), _write_onnx, _load_onnx),
    "openvino": Format(".xml", "openvino", ("openvino",), _write_openvino, _load_openvino),
    "export": Format(".pt2", "torch", (), _write_program, _load_program),
    "aoti": Format(".pt2", "torch", (), _write_package, _load_package),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters and runtimes warn of, which is about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def explained(what: str, cure: str = "") -> Iterator[None]:
    """Says what could not be done, with the first line of the reason, and what to try.

    Raises:
        RuntimeError: The block raised any error but a ConfigError, which names its own cure.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # of exporters and runtimes, which have many kinds
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise RuntimeError(f"{what}: {type(error).__name__}: {reason}{cure}") from error


def need(packages: Sequence[str], purpose: str) -> None:
    """Makes sure that packages are there.

    Raises:
        ModuleNotFoundError: One is not; the message names the extra.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{purpose} needs {' and '.join(missing)}: pip install 'backbone-kit[export]'", name=missing[0]
        )
