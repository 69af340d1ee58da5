"""Files that others publish: found where they are, downloaded only where the user allows it, held to their sha256."""

import errno
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from ..core.files import DAY, cache_folder, left_beside, sha256_of, temporary_beside
from ..core.locks import claim
from ..core.progress import say, track

TIMEOUT = 10
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

    A file that the user gives may be another one: `pinned` tells. The cache holds published files alone.

    Raises FileNotFoundError where there is no file and none can be downloaded (it says what to do), ValueError where
    the one in the cache or at the address is not the published one, OSError where the cache cannot be written.
    """
    if path:
        return given(published, extractor, path)
    folder = cache_folder() / "weights"
    kept = folder / published.file
    permission = f"allow the download with extractor.{extractor}.download=true"
    if kept.is_file():
        found = held_to(published, kept)
        if found.pinned:
            return found
        damage = f"{kept} is damaged: its sha256 is {found.sha256}, expected {published.sha256}"
        if not download:
            raise ValueError(f"{damage}; delete it, or {permission}")
        say(f"{damage}; it is downloaded again")
    elif not download:
        raise FileNotFoundError(
            f"no weights of {extractor!r}: put {published.file} (sha256 {published.sha256}, from {published.url}) into "
            f"{folder}, or {permission}, or give extractor.{extractor}.path=FILE"
        )
    with temporary_folder(folder) as temporary:
        try:
            fetch(published.url, temporary / published.file)
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            raise FileNotFoundError(f"{published.url}: {error}; put {published.file} into {folder} by hand") from None
        found = held_to(published, temporary / published.file)
        if not found.pinned:
            raise ValueError(
                f"{published.url}: its content has sha256 {found.sha256}, expected {published.sha256}; it is not kept"
            )
        os.replace(found.path, kept)
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


def fetch(url: str, to: Path) -> None:
    """Write what lies at `url` to a file, with a progress bar. Raises OSError or HTTPException where that fails."""
    request = urllib.request.Request(url, headers={"User-Agent": "assay"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, to.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0))
        with track(f"downloading {to.name}", size, "bytes") as advance:
            while block := response.read(BLOCK):
                file.write(block)
                advance(len(block))
    if to.stat().st_size < size:
        raise OSError(f"the connection broke off after {to.stat().st_size:,} of {size:,} bytes")


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder of this process alone, inside a folder of the cache and deleted at the end.

    Those that killed processes left there are deleted too: of this host at once, of others after a week.
    """
    name = folder / "unfinished"
    temporary = temporary_beside(name)
    try:
        temporary.mkdir(parents=True, mode=0o700)
        opened = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OSError(f"the cache {folder} cannot be written ({error}); set ASSAY_CACHE to a folder that can") from None
    try:
        claim(opened, temporary)
        yield temporary
    finally:
        os.close(opened)
        shutil.rmtree(temporary, ignore_errors=True)
        for path in left_beside(name, WEEK):
            shutil.rmtree(path, ignore_errors=True)
