"""Published files: never fetched unasked, never used unless they are what was published, never in place in part."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from assay.harness.formats.download import Published, find_published

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def published(served: tuple[Path, str]) -> Published:
    (served[0] / "net.pth").write_bytes(CONTENT)
    return Published("net.pth", f"{served[1]}/net.pth", SHA256)


@pytest.fixture
def breaking() -> Iterator[str]:
    """An address that promises 1000 bytes and gives 10."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(CONTENT[:10])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/net.pth"
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


def test_a_connection_that_breaks_off_leaves_nothing(breaking: str, folder: Path) -> None:
    with pytest.raises(OSError, match=r"broke off after 10 of 1,000 bytes; put net.pth into .*weights by hand"):
        find_published(Published("net.pth", breaking, SHA256), "net", download=True)
    assert not list(folder.iterdir())


def test_an_address_without_the_file(published: Published, served: tuple[Path, str]) -> None:
    (served[0] / "net.pth").unlink()
    with pytest.raises(OSError, match=r"net.pth: HTTP Error 404.*; put net.pth into"):
        find_published(published, "net", download=True)


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
