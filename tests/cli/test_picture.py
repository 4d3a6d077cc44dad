"""Which pictures are read, as which numbers, and in what words the others are refused."""

import numpy
import pytest
from PIL import Image

from backbone_kit.cli.parser import CommandError
from backbone_kit.cli.picture import read_picture

GREY = numpy.arange(256).reshape(16, 16)


@pytest.mark.parametrize(("name", "kind"), [("x.png", "<u2"), ("x.tif", "<u2"), ("big_endian.tif", ">u2")])
def test_16_bits_become_8(tmp_path, name, kind):
    Image.fromarray((GREY * 257).astype(kind)).save(tmp_path / name)
    picture = read_picture(str(tmp_path / name))
    assert picture.shape == (16, 16, 3)
    assert (picture.numpy() == GREY[:, :, None]).all()


@pytest.mark.parametrize(
    ("kind", "words"), [("int32", r"32-bit integers \(mode I\)"), ("float32", r"floats \(mode F\)")]
)
def test_pixels_of_unknown_range_are_refused(tmp_path, kind, words):
    Image.fromarray(GREY.astype(kind)).save(tmp_path / "x.tif")
    with pytest.raises(CommandError, match=rf"{words}, of unknown range; save it with 8 or 16 bits"):
        read_picture(str(tmp_path / "x.tif"))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(GREY.astype("uint8").repeat(10, 0)).save(path)
    return path


def test_a_truncated_picture(photo):
    photo.write_bytes(photo.read_bytes()[:-40])
    with pytest.raises(CommandError, match=r"photo\.png: cannot be read as a picture: it is truncated"):
        read_picture(str(photo))


def test_a_large_picture_is_read_without_a_warning_and_a_huge_one_is_refused(photo, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert read_picture(str(photo)).shape == (160, 16, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(CommandError, match="it has more than 2,000 pixels"):
        read_picture(str(photo))


def test_a_folder_and_what_is_no_picture(tmp_path):
    with pytest.raises(CommandError, match="is a directory"):
        read_picture(str(tmp_path))
    (tmp_path / "x.png").write_text("text")
    with pytest.raises(CommandError, match="Pillow knows no such format"):
        read_picture(str(tmp_path / "x.png"))


def test_what_may_not_be_read(photo, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(photo))

    monkeypatch.setattr(Image, "open", denied)
    with pytest.raises(CommandError, match="cannot be read as a picture: permission denied"):
        read_picture(str(photo))
