"""Model names: files of their own and rows of a family's table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backbone_kit import ConfigError, build_backbone, list_backbones, names
from backbone_kit.names import named_config

TABLE = """\
shared: {type: ResNet, norm_cfg: {type: BN, requires_grad: true}}
names:
  small: &small {depth: 18, norm_cfg: {type: IN}}
  small_gn: {<<: *small, norm_cfg: {type: GN, num_groups: 32}}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of configs in place of the package's own."""
    monkeypatch.setattr(names, "config_root", lambda: tmp_path)
    names.named_configs.cache_clear()
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "names.yaml").write_text(TABLE)
    (folder / "large.yaml").write_text("{type: ResNet, depth: 101}")
    yield tmp_path
    names.named_configs.cache_clear()


def test_a_name_is_a_file_or_a_row(root: Path) -> None:
    assert list_backbones() == ["large", "small", "small_gn"]
    assert build_backbone("small").out_channels == (64, 128, 256, 512)
    assert named_config("large").to_dict() == {"type": "ResNet", "depth": 101}


def test_a_row_stands_over_what_its_table_shares_key_by_key(root: Path) -> None:
    assert named_config("small").to_dict() == {
        "type": "ResNet",
        "norm_cfg": {"type": "IN"},
        "depth": 18,
    }
    assert named_config("small_gn")["norm_cfg"] == {"type": "GN", "num_groups": 32}
    assert "small in toy/names.yaml" in named_config("small").explain("depth")


def test_a_config_of_a_name_is_the_callers_own(root: Path) -> None:
    named_config("small")["norm_cfg"]["type"] = "GN"
    assert named_config("small")["norm_cfg"]["type"] == "IN"


def test_one_name_in_two_places_is_refused(root: Path) -> None:
    (root / "toy" / "small.yaml").write_text("{type: ResNet, depth: 18}")
    names.named_configs.cache_clear()
    with pytest.raises(ConfigError, match=r"the name 'small' stands in .*names.yaml and in .*small.yaml"):
        list_backbones()


def test_an_unknown_name_suggests_the_nearest_row(root: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'small_gn'"):
        build_backbone("smal_gn")
