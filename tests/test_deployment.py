"""docs/deployment.md has a row for every class, and its figures are those of the nets."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from .torch_versions import dynamic_export

ROOT = Path(__file__).parent.parent
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "update_deployment.py"))
ROWS: dict[str, Any] = json.loads((ROOT / "docs" / "deployment.json").read_text())
COMMAND = "run python tools/update_deployment.py"
EXACT = {*TOOL["COLUMNS"]} - {"largest", "bfloat16", "float16", "int8"}


def net(name: str) -> Any:
    return TOOL["drawn"](TOOL["subjects"]()[name]())


def test_the_page_is_the_data() -> None:
    assert (ROOT / "docs" / "deployment.md").read_text() == TOOL["rendered"](ROWS), COMMAND


def test_rows_are_of_classes_and_layers_and_have_all_their_cells() -> None:
    assert not {*ROWS} - {*TOOL["subjects"]()}, COMMAND
    for name, row in ROWS.items():
        missing = {*(TOOL["FILES"] if name in TOOL["LAYERS"] else TOOL["COLUMNS"])} - {*row}
        assert not missing, f"{name} has no {', '.join(missing)}: {COMMAND}"


def test_every_class_and_layer_has_a_row() -> None:
    missing = [name for name in TOOL["subjects"]() if name not in ROWS]
    if missing:
        pytest.skip(f"not measured: {', '.join(missing)}; {COMMAND} {missing[0]}, which takes ten minutes")


def test_rows_of_other_versions_say_so() -> None:
    rows = {name: {**row, "versions": "torch 3"} if name == "ResNet" else row for name, row in ROWS.items()}
    usual, *others = TOOL["measured_with"](rows)
    assert usual == f"Measured with {ROWS['ResNet']['versions']}."
    assert others == ["ResNet: with torch 3."]


def test_whatever_works_computes_the_same() -> None:
    for name, row in ROWS.items():
        for column in EXACT & {*row}:
            assert isinstance(row[column], str) or row[column] < 1e-4, (name, column)


@pytest.mark.parametrize("name", ["ResNet", "GhostNet"])
def test_rounding_is_as_recorded(name: str) -> None:
    row, model = ROWS[name], net(name)
    for column in ("bfloat16", "float16", "channels_last"):
        (found,) = TOOL["cells"](column, model).values()
        assert found < 3 * row[column] + 1e-5, column
    assert TOOL["cells"]("largest", model)["largest"] == pytest.approx(row["largest"], rel=0.1)


@pytest.mark.slow
@dynamic_export
def test_a_file_has_the_operators_that_are_listed() -> None:
    pytest.importorskip("onnxruntime")
    found = TOOL["cells"]("onnx", net("ECA"))
    assert found["operators"] == ROWS["ECA"]["operators"]
    assert found["onnx"] < 1e-4


def test_what_fails_says_why() -> None:
    found = TOOL["cells"]("bfloat16", lambda x: x.nothing)
    assert found["bfloat16"].startswith("AttributeError: ")
    assert TOOL["shown"](found["bfloat16"]) == "no"
