"""Published files: never fetched unasked, never used unless they are what was published, gone on with after a break."""

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from assay.harness.formats import download
from assay.harness.formats.download import Published, fetch, find_published

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAIT", 0)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def published(served: tuple[Path, str]) -> Published:
    (served[0] / "net.pth").write_bytes(CONTENT)
    return Published("net.pth", f"{served[1]}/net.pth", SHA256)


class Troubled:
    """A server of one file that understands ranges and has, for each request, one trouble of a list; then none.

    An integer: so many bytes of the body are sent, then the connection breaks off. "busy": 503. "deaf": the range is
    not understood. "lost": 404. ranges: what was asked for.
    """

    def __init__(self) -> None:
        self.content, self.troubles, self.ranges = CONTENT, list[int | str](), list[str]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range", "")
                outer.ranges.append(asked)
                trouble = outer.troubles.pop(0) if outer.troubles else ""
                if trouble in ("busy", "lost"):
                    self.send_response(503 if trouble == "busy" else 404)
                    self.send_header("Content-Length", "0")
                    self.send_header("Retry-After", "3600")
                    self.end_headers()
                    return
                start = 0 if trouble == "deaf" or not asked else int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
                if start >= len(outer.content):
                    self.send_error(416)
                    return
                body = outer.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:trouble] if isinstance(trouble, int) else body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.published = Published("net.pth", f"http://127.0.0.1:{self.server.server_address[1]}/net.pth", SHA256)


@pytest.fixture
def troubled() -> Iterator[Troubled]:
    made = Troubled()
    with made.server as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def test_nothing_is_downloaded_without_permission_and_the_error_says_all_that_is_needed(
    published: Published, folder: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_published(published, "net")
    line = str(caught.value)
    assert "\n" not in line
    for needed in (published.url, SHA256, str(folder), "extractor.net.download=true", "extractor.net.path=FILE"):
        assert needed in line
    assert not folder.exists()


def test_a_permitted_download_is_kept_whole_and_used_again(
    published: Published, folder: Path, served: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_published(published, "net", download=True)
    assert (found.path, found.sha256, found.pinned, found.origin) == (folder / "net.pth", SHA256, True, "net.pth")
    assert found.path.read_bytes() == CONTENT
    assert "downloading net.pth: 1,280,000 bytes" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["net.pth"], "nothing is left beside"
    (served[0] / "net.pth").unlink()
    assert find_published(published, "net") == find_published(published, "net", download=True) == found


def test_another_content_at_the_address_is_not_kept(
    published: Published, folder: Path, served: tuple[Path, str]
) -> None:
    (served[0] / "net.pth").write_bytes(CONTENT[:-1] + b"\x00")
    with pytest.raises(ValueError, match=f"{re.escape(published.url)}: .* expected {SHA256}; it is not kept"):
        find_published(published, "net", download=True)
    assert not list(folder.iterdir())


def test_a_changed_file_in_the_cache_is_refused_or_downloaded_again(
    published: Published, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_published(published, "net", download=True)
    (folder / "net.pth").write_bytes(CONTENT[:-1] + b"\x00")
    with pytest.raises(ValueError, match=rf"net.pth is damaged: .* expected {SHA256}; delete it, or allow"):
        find_published(published, "net")
    assert find_published(published, "net", download=True).path.read_bytes() == CONTENT
    assert "is damaged" in capsys.readouterr().err


def test_after_a_break_it_goes_on_where_it_was(
    troubled: Troubled, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    troubled.troubles = [500_000, 0, 700_000]
    assert find_published(troubled.published, "net", download=True).path.read_bytes() == CONTENT
    assert troubled.ranges == ["", "bytes=500000-", "bytes=500000-", "bytes=1200000-"]
    said = capsys.readouterr().err
    assert "net.pth: the connection broke off after 1,200,000 of 1,280,000 bytes; going on from there" in said
    assert [path.name for path in folder.iterdir()] == ["net.pth"]


def test_a_command_goes_on_where_the_last_one_was_broken_off(troubled: Troubled, folder: Path) -> None:
    troubled.troubles = [10] + [0] * download.RETRIES
    with pytest.raises(
        OSError, match=r"after 10 of 1,280,000 bytes; run the command again to go on from there, or put"
    ):
        find_published(troubled.published, "net", download=True)
    assert len(troubled.ranges) == 1 + download.RETRIES, "tries that bring nothing are counted"
    assert (folder / "net.pth.part").read_bytes() == CONTENT[:10]
    with pytest.raises(FileNotFoundError, match="allow the download"):
        find_published(troubled.published, "net")
    troubled.ranges.clear()
    assert find_published(troubled.published, "net", download=True).path.read_bytes() == CONTENT
    assert troubled.ranges == ["bytes=10-"]


def test_a_busy_server_is_asked_again_and_a_lost_file_is_not(troubled: Troubled, folder: Path) -> None:
    troubled.troubles = ["busy", "busy", 100, "busy"]
    assert find_published(troubled.published, "net", download=True).path.read_bytes() == CONTENT
    assert len(troubled.ranges) == 5
    (folder / "net.pth").unlink()
    troubled.troubles, troubled.ranges = ["busy"] * 99, []
    with pytest.raises(OSError, match=r"net.pth: HTTP Error 503: Service Unavailable; put net.pth into .* by hand"):
        find_published(troubled.published, "net", download=True)
    assert len(troubled.ranges) == 1 + download.RETRIES
    troubled.troubles, troubled.ranges = ["lost"], []
    with pytest.raises(OSError, match=r"net.pth: HTTP Error 404: Not Found; put net.pth into .* by hand"):
        find_published(troubled.published, "net", download=True)
    assert len(troubled.ranges) == 1
    assert not list(folder.iterdir()), "nothing is left where nothing came"


def test_a_server_that_does_not_understand_ranges_sends_the_file_again(troubled: Troubled, tmp_path: Path) -> None:
    troubled.troubles = [1000, "deaf"]
    assert not fetch(troubled.published.url, tmp_path / "net.pth"), "one piece in the end"
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_a_part_of_another_file_is_noticed_and_thrown_away(
    troubled: Troubled, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    for other in (b"\x00" * 1000, b"\x00" * len(CONTENT), CONTENT + b"\x00"):
        (folder / "net.pth.part").write_bytes(other)
        assert find_published(troubled.published, "net", download=True).path.read_bytes() == CONTENT
        assert "it is downloaded once more, from the start" in capsys.readouterr().err
        (folder / "net.pth").unlink()
    troubled.content, troubled.troubles = CONTENT[:-1] + b"\x00", [1000]
    with pytest.raises(ValueError, match="it is not kept"):
        find_published(troubled.published, "net", download=True)
    assert troubled.ranges[-3:] == ["", "bytes=1000-", ""], "wrong bytes are not asked for a third time"
    assert not list(folder.iterdir())


def test_of_several_processes_one_downloads(troubled: Troubled) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(find_published, troubled.published, "net", download=True) for _ in range(4)]
        assert {job.result().sha256 for job in jobs} == {SHA256}
    assert troubled.ranges == [""]


def test_no_server_and_no_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Published("net.pth", "http://127.0.0.1:9/net.pth", SHA256)
    with pytest.raises(OSError, match=r"net.pth: no connection: \[Errno 111\] Connection refused; put net.pth into"):
        find_published(nowhere, "net", download=True)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be written .* set ASSAY_CACHE to a folder that can"):
        find_published(nowhere, "net", download=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_named(troubled: Troubled) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        fetch(troubled.published.url, Path("/dev/full"))


def test_a_file_that_the_user_gives_is_opened_and_said_to_be_another(published: Published, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"other weights")
    found = find_published(published, "net", str(mine), download=True)
    own = hashlib.sha256(b"other weights").hexdigest()
    assert (found.path, found.sha256, found.pinned) == (mine, own, False)
    assert found.origin == f"weights of unknown origin, sha256 {own}"
    mine.write_bytes(CONTENT)
    found = find_published(published, "net", str(mine))
    assert (found.path, found.pinned, found.origin) == (mine, True, "net.pth"), "its name does not matter"
    with pytest.raises(FileNotFoundError, match=r"extractor.net.path=.*absent.pth is not a file"):
        find_published(published, "net", str(tmp_path / "absent.pth"))


def test_the_first_digits_of_a_hash_are_held_to_as_well(published: Published) -> None:
    known = Published("net.pth", published.url, SHA256[:8])
    assert find_published(known, "net", download=True).sha256 == SHA256
    other = Published("other.pth", published.url, "00000000")
    with pytest.raises(ValueError, match="expected 00000000"):
        find_published(other, "net", download=True)
