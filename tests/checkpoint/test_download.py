"""Files come whole, once, and as they were meant, whatever the server does."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from backbone_kit import CheckpointError, load_checkpoint
from backbone_kit.checkpoint import download, lock
from backbone_kit.checkpoint.io import read_checkpoint
from backbone_kit.checkpoint.transfer import _Redirects

from .server import Server, chunked, content, status

DATA = save({"w": torch.arange(2**16, dtype=torch.float32)})
OTHER = save({"w": torch.zeros(2**16)})
HASH = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2
fetch = partial(download.fetch, timeout=0.3, attempts=3, backoff=0.001)


def left(path: Path) -> list[str]:
    """What lies beside a file, but for its lock."""
    return sorted(file.name for file in path.parent.iterdir() if not file.name.endswith(".lock"))


def test_a_url_is_read_and_fetched_once(server: Server, tmp_path: Path) -> None:
    url = server.url("/a/weights.safetensors?token=secret", content(DATA))
    for _ in range(2):
        found = read_checkpoint(url)
        assert torch.equal(found.tensors["w"], torch.arange(2**16, dtype=torch.float32))
    assert len(server.asked) == 1
    path = download.kept_at(url)
    assert path.is_relative_to(tmp_path / "home")
    assert left(path) == ["weights.safetensors"]
    other = server.url("/b/weights.safetensors", content(OTHER))
    assert not read_checkpoint(other).tensors["w"].any()


def test_a_model_loads_from_a_url(server: Server) -> None:
    net, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    load_checkpoint(other, server.url("/a.pth", content(file.getvalue())))
    assert torch.equal(other.weight, net.weight)


@pytest.mark.parametrize("etag", ['"1"', None, 'W/"1"'], ids=["versioned", "without version", "weakly versioned"])
@pytest.mark.parametrize("checked", [True, False])
def test_what_is_cut_short_is_gone_on_with(server: Server, etag: str | None, checked: bool) -> None:
    url = server.url("/a.bin", content(DATA, etag=etag, send=HALF), content(DATA, etag=etag))
    assert fetch(url, HASH if checked else None).read_bytes() == DATA
    gone_on = etag == '"1"' or checked
    assert server.asked == [("/a.bin", None), ("/a.bin", f"bytes={HALF}-" if gone_on else None)]


def test_a_file_whose_length_is_not_said_must_say_its_end(server: Server) -> None:
    url = server.url("/a.bin", chunked(DATA, 3, whole=False), chunked(DATA, 3))
    assert fetch(url).read_bytes() == DATA
    assert len(server.asked) == 2


def test_it_may_break_often_as_long_as_something_comes(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, send=2**14))
    assert fetch(url).read_bytes() == DATA
    assert len(server.asked) == -(-len(DATA) // 2**14)


def test_what_stalls_is_given_up_and_gone_on_with(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, send=HALF, stall=True), content(DATA))
    assert fetch(url).read_bytes() == DATA
    assert server.asked[1] == ("/a.bin", f"bytes={HALF}-")


def test_the_next_call_goes_on_where_the_last_one_gave_up(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, send=HALF), status(503))
    with pytest.raises(CheckpointError, match=rf"503 .*, 3 times in a row; the {HALF} bytes that came are kept"):
        fetch(url)
    assert left(download.kept_at(url)) == ["a.bin.part", "a.bin.version"]
    server.url("/a.bin", content(DATA))
    assert fetch(url).read_bytes() == DATA
    assert server.asked[-1] == ("/a.bin", f"bytes={HALF}-")
    assert left(download.kept_at(url)) == ["a.bin"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server) -> None:
    url = server.url("/a.bin", content(OTHER, etag='"old"', send=HALF), content(DATA, etag='"new"'))
    assert fetch(url).read_bytes() == DATA


def test_a_part_of_another_file_is_thrown_away_once_the_hash_tells(server: Server) -> None:
    url = server.url("/a.bin", content(OTHER, etag=None, send=HALF), status(500))
    with pytest.raises(CheckpointError, match="500"):
        fetch(url, HASH)
    server.url("/a.bin", content(DATA, etag=None))
    assert fetch(url, HASH).read_bytes() == DATA


@pytest.mark.parametrize("second", [{"ranges": False}, {"lie": 1}], ids=["all of it", "another part"])
def test_a_server_that_sends_another_part_than_asked_for_is_not_believed(server: Server, second: Any) -> None:
    url = server.url("/a.bin", content(DATA, send=HALF), content(DATA, **second), content(DATA))
    assert fetch(url).read_bytes() == DATA


def test_a_server_that_has_become_shorter_starts_again(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, send=HALF), status(416), content(DATA))
    assert fetch(url).read_bytes() == DATA


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_waited_for(server: Server, code: int) -> None:
    url = server.url("/a.bin", status(code, Retry_After="0"), content(DATA))
    assert fetch(url, backoff=60).read_bytes() == DATA


@pytest.mark.parametrize(("code", "said"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")])
def test_what_does_not_pass_is_said_at_once(server: Server, code: int, said: str) -> None:
    url = server.url("/a.bin", status(code))
    with pytest.raises(CheckpointError, match=f"a.bin: the server says {said}"):
        fetch(url)
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(
        CheckpointError, match=r"127\.0\.0\.1:1/a\.bin: the server cannot be reached .* 3 times in a row"
    ):
        fetch("http://user:secret@127.0.0.1:1/a.bin?token=secret")
    with pytest.raises(CheckpointError) as caught:
        fetch("http://user:secret@127.0.0.1:1/a.bin?token=secret")
    assert "secret" not in str(caught.value)


def test_redirects_are_followed_and_end(server: Server) -> None:
    end = server.url("/end.bin", content(DATA))
    middle = server.url("/middle", status(307, Location=end))
    assert fetch(server.url("/start.bin", status(302, Location=middle))).read_bytes() == DATA
    loop = server.url("/loop", status(302, Location="/loop"))
    with pytest.raises(CheckpointError, match="302"):
        fetch(loop)
    with pytest.raises(CheckpointError, match="the server says 302"):
        fetch(server.url("/file", status(302, Location="file:///etc/passwd")))


def test_a_redirect_does_not_leave_encryption() -> None:
    request = urllib.request.Request("https://a.example/x.pth")
    with pytest.raises(CheckpointError, match=r"redirects to http://b\.example/x\.pth, which is not encrypted"):
        _Redirects().redirect_request(request, None, 302, "", {}, "http://b.example/x.pth")


def test_a_file_that_is_not_what_its_hash_says_is_thrown_away(server: Server) -> None:
    named = server.url(f"/a-{HASH[:8]}.pth", content(OTHER))
    for url, expected in ((named, None), (server.url("/a.pth", content(OTHER)), HASH)):
        with pytest.raises(
            CheckpointError, match=f"has the SHA-256 .*, not {expected or HASH[:8]}; it is not the file"
        ):
            fetch(url, expected)
        assert left(download.kept_at(url)) == []
    server.url(f"/a-{HASH[:8]}.pth", content(DATA))
    assert fetch(named).read_bytes() == DATA


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"<html>sign in</html>", "is a page of HTML"), (b'{"error": 1}', "is JSON"), (b"", "is empty")],
)
def test_a_page_in_place_of_a_file_is_not_kept(server: Server, data: bytes, message: str) -> None:
    url = server.url("/a.pth", content(data))
    with pytest.raises(CheckpointError, match=rf"a\.pth: {message}"):
        fetch(url)
    assert left(download.kept_at(url)) == []


def test_a_length_that_is_too_long_is_a_broken_transfer(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, said=len(DATA) + 5))
    with pytest.raises(CheckpointError, match=f"the transfer ended after {len(DATA)} of {len(DATA) + 5} bytes"):
        fetch(url)


def test_a_length_that_is_too_short_is_a_damaged_file(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, said=HALF))
    with pytest.raises(
        CheckpointError, match=r"a\.bin: .*cut short.*It was kept at .*a\.bin; delete it to fetch it again"
    ):
        read_checkpoint(url)


def test_those_who_ask_at_once_get_one_transfer(server: Server) -> None:
    url = server.url("/a.bin", content(DATA, send=HALF), content(DATA))
    with ThreadPoolExecutor(8) as ranks:
        paths = list(ranks.map(fetch, [url] * 8))
    assert {path.read_bytes() for path in paths} == {DATA}
    assert len(server.asked) == 2  # it broke off once


RANK = """
import sys, types
rooms = types.ModuleType("backbone_kit.checkpoint")  # without what needs torch, which takes seconds to import
rooms.__path__ = [sys.argv[1]]
sys.modules[rooms.__name__] = rooms
from backbone_kit.checkpoint.download import fetch
print(fetch(sys.argv[2]).stat().st_size)
"""


def test_so_do_processes(server: Server) -> None:
    call = [sys.executable, "-c", RANK, str(Path(download.__file__).parent), server.url("/a.bin", content(DATA))]
    ranks = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert [int(rank.communicate()[0]) for rank in ranks] == [len(DATA)] * 8
    assert len(server.asked) == 1


def test_the_lock_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    code = "import os, runpy, sys\nfrom pathlib import Path\n"
    code += "with runpy.run_path(sys.argv[1])['locked'](Path(sys.argv[2])): os._exit(7)"
    died = subprocess.run([sys.executable, "-c", code, lock.__file__, str(tmp_path / "lock")], check=False)
    assert died.returncode == 7
    with lock.locked(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_offline_only_what_is_there_is_used(server: Server, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, there = server.url("/a.bin", content(DATA)), server.url("/b.bin", content(DATA))
    fetch(there)
    monkeypatch.setenv("BACKBONE_KIT_OFFLINE", value)
    message = rf"a\.bin: is not there yet, and BACKBONE_KIT_OFFLINE is set; .* put the file at {download.kept_at(url)}"
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(url)
    assert fetch(there).read_bytes() == DATA
    download.kept_at(url).parent.mkdir(parents=True)
    download.kept_at(url).write_bytes(DATA)
    assert len(read_checkpoint(url).tensors) == 1
    monkeypatch.setenv("BACKBONE_KIT_OFFLINE", "0")
    assert not download.offline()


def test_a_home_that_cannot_be_written_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKBONE_KIT_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"cannot be kept at .*file.*; BACKBONE_KIT_HOME names another folder"):
        fetch(server.url("/a.bin", content(DATA)))


@pytest.mark.parametrize("url", ["ftp://a.example/a.pth", "s3://bucket/a.pth", "file:///etc/passwd"])
def test_other_protocols_are_refused(server: Server, url: str) -> None:
    with pytest.raises(CheckpointError, match="only http and https can be fetched"):
        fetch(url)


def test_a_terminal_gets_a_bar(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch(server.url("/weights.bin", content(DATA, send=HALF), content(DATA)))
    assert "weights.bin" in terminal.getvalue()
    assert "262" in terminal.getvalue()  # kB


def test_the_home_is_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKBONE_KIT_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert download.home() == Path("/caches/backbone_kit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert download.home() == Path("~/.cache/backbone_kit").expanduser()
    for bad in ("http://h/../..", "http://h/%2e%2e/%2e%2e%2fx", "http://h/", "http://h/.."):
        assert download.kept_at(bad).parent.parent == download.home() / "weights"
        assert download.kept_at(bad).name not in ("", ".", "..")
