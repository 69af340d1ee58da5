"""Files that others publish: found where they are, downloaded only where the user allows it, held to their sha256."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.files import DAY, cache_folder, left_beside, naming, sha256_of, temporary_beside
from ..core.locks import claim, one_at_a_time
from ..core.progress import say, track

if TYPE_CHECKING:
    from requests import Session

TIMEOUT = 10
RETRIES = 5
WAIT = 0.5
"""Seconds between tries after a break. A busy server is asked at once, then after twice as many, four times and so on,
whatever it wishes: some ask for an hour."""
BUSY = (408, 429, 500, 502, 503, 504)
"""What a server answers that may answer otherwise a moment later."""
BLOCK = 2**20
WEEK = 7 * DAY


@dataclass(frozen=True)
class Published:
    """A file as its authors publish it; of its sha256 the first digits, where no more is known."""

    file: str
    url: str
    sha256: str


class Found(NamedTuple):
    """Where a file lies, its sha256, and whether that is the published one.

    origin: for people and records, the name under which it was published, else that it is of unknown origin.
    """

    path: Path
    sha256: str
    pinned: bool
    origin: str


def find_published(published: Published, extractor: str, path: str = "", download: bool = False) -> Found:
    """The weights of an extractor: the file that the user gives, else the one in the cache, else a permitted download.

    A file that the user gives may be another one: `pinned` tells. The cache holds published files alone, and beside
    them the first part of one, where a download was broken off: the next one goes on from there.

    Raises FileNotFoundError where there is no file and none can be downloaded (it says what to do), ValueError where
    the one in the cache or at the address is not the published one, OSError where the cache cannot be written.
    """
    if path:
        return given(published, extractor, path)
    folder = cache_folder() / "weights"
    kept = folder / published.file
    permission = f"allow the download with extractor.{extractor}.download=true"
    if not kept.is_file() and not download:
        raise FileNotFoundError(
            f"no weights of {extractor!r}: put {published.file} (sha256 {published.sha256}, from {published.url}) into "
            f"{folder}, or {permission}, or give extractor.{extractor}.path=FILE"
        )
    if not kept.is_file():
        return _downloaded(published, kept)
    found = held_to(published, kept)
    if found.pinned:
        return found
    damage = f"{kept} is damaged: its sha256 is {found.sha256}, expected {published.sha256}"
    if not download:
        raise ValueError(f"{damage}; delete it, or {permission}")
    say(f"{damage}; it is downloaded again")
    return _downloaded(published, kept)


def _downloaded(published: Published, kept: Path) -> Found:
    """The published file at its place in the cache. Of several processes one downloads it, and the others wait."""
    folder, part = kept.parent, kept.with_name(f"{kept.name}.part")
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part.touch()
    with one_at_a_time(folder):
        if kept.is_file() and (found := held_to(published, kept)).pinned:
            part.unlink(missing_ok=True)
            return found
        try:
            joined = fetch(published.url, part)
            if joined and not held_to(published, part).pinned:
                say(
                    f"{published.url}: its pieces are not those of one file; it is downloaded once more, from the start"
                )
                part.unlink()
                fetch(published.url, part)
        except ConnectionError as error:
            again = "run the command again to go on from there, or " if _size(part) else ""
            raise FileNotFoundError(f"{published.url}: {error}; {again}put {kept.name} into {folder} by hand") from None
        finally:
            if not _size(part):
                part.unlink(missing_ok=True)
        found = held_to(published, part)
        if not found.pinned:
            part.unlink()
            raise ValueError(
                f"{published.url}: its content has sha256 {found.sha256}, expected {published.sha256}; it is not kept"
            )
        os.replace(part, kept)
    return found._replace(path=kept)


def given(published: Published, extractor: str, path: str) -> Found:
    """The file that a user gives for an extractor, whatever is in it. Raises FileNotFoundError where there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"extractor.{extractor}.path={path} is not a file")
    return held_to(published, file)


def held_to(published: Published, path: Path) -> Found:
    """A file and whether it is the published one."""
    sha256 = sha256_of(path)
    pinned = sha256.startswith(published.sha256)
    return Found(path, sha256, pinned, published.file if pinned else f"weights of unknown origin, sha256 {sha256}")


def fetch(url: str, to: Path) -> bool:
    """Write what lies at `url` to a file, with a progress bar. What the file holds already is taken for the beginning.

    Where the connection breaks off, it goes on from there, until RETRIES tries in a row have brought nothing more.
    Returns whether the file is put together from pieces. Raises ConnectionError where the address does not give it,
    OSError where it cannot be written.
    """
    # requests and urllib3 wait, retry, and find proxies. pooch deletes what it has when a connection breaks off, and
    # tries as often for a file that is not there; what resumes in huggingface_hub is meant for its own hub alone.
    from requests import RequestException, Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        RETRIES,
        connect=1,
        status_forcelist=BUSY,
        backoff_factor=WAIT,
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    most, left = _size(to), RETRIES
    with Session() as session:
        # Of a file that is compressed on the way, other bytes would be counted.
        session.headers.update({"User-Agent": "assay", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        while True:
            try:
                return _go_on(session, url, to)
            except RequestException as error:
                raise ConnectionError(_reason(error)) from None
            except BrokenOffError as error:
                left = RETRIES if _size(to) > most else left - 1
                most = max(most, _size(to))
                if not left:
                    raise ConnectionError(str(error)) from None
                say(f"{url}: {error}; going on from there")
                time.sleep(WAIT)


class BrokenOffError(Exception):
    """A connection that ended before the file did."""


def _go_on(session: "Session", url: str, to: Path) -> bool:
    """One request for the rest of a file; whether the server began there, and not with the whole file."""
    from urllib3.exceptions import HTTPError

    have = _size(to)
    asked = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=asked, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:  # there is nothing beyond: the file is whole, or another one
            return True
        if not response.ok:
            raise ConnectionError(f"HTTP Error {response.status_code}: {response.reason}")
        if response.status_code != 206:
            have = 0
        size = have + int(response.headers.get("Content-Length", 0))
        with (
            naming(to),
            to.open("ab" if have else "wb") as file,
            track(f"downloading {to.name.removesuffix('.part')}", size, "bytes") as advance,
        ):
            advance(have)
            try:
                for block in response.raw.stream(BLOCK, decode_content=False):
                    file.write(block)
                    advance(len(block))
                broken = file.tell() < size
            except HTTPError:
                broken = True
    if broken:
        known = f" of {size:,}" if size > have else ""
        raise BrokenOffError(f"the connection broke off after {_size(to):,}{known} bytes")
    return have > 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """What lies at the root of an error of requests, without the objects that it passed through."""
    inner = error.args[0] if error.args else error
    return f"no connection: {str(getattr(inner, 'reason', inner)).rpartition(': ')[2]}"


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder of this process alone, inside a folder of the cache and deleted at the end.

    Those that killed processes left there are deleted too: of this host at once, of others after a week.
    """
    name = folder / "unfinished"
    temporary = temporary_beside(name)
    with _writable(folder):
        temporary.mkdir(parents=True, mode=0o700)
        opened = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
    try:
        claim(opened, temporary)
        yield temporary
    finally:
        os.close(opened)
        shutil.rmtree(temporary, ignore_errors=True)
        for path in left_beside(name, WEEK):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """The body begins to write to a folder of the cache: where that fails, the error says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(f"the cache {folder} cannot be written ({error}); set ASSAY_CACHE to a folder that can") from None
