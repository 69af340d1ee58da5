"""The files in a tar archive, found once and then read from their places in it."""

import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...core.folders import hidden
from .spans import NOTHING, Span, plain_name

MAGIC = (257, b"ustar")
LINKED = 10
"""Links to folders may name each file so many times on average."""


def is_tar(begin: bytes) -> bool:
    """Whether a file begins as a tar archive does."""
    return begin[MAGIC[0] :].startswith(MAGIC[1])


def tar_spans(top: Path) -> Iterator[Span]:
    """The files in an uncompressed archive, and those that links in it stand for; hidden ones are not among them.

    Raises ValueError, in one line, for an archive that is cut off or damaged, and for names that lead out of it.
    """
    links = dict[str, str]()
    yield from _files(top, links)
    if links:
        yield from _linked(top, {span.name: span for span in _files(top, {})}, links)


def _files(top: Path, links: dict[str, str]) -> Iterator[Span]:
    """The files themselves. To `links` are added, by name, what those stand for."""
    count = 0
    try:
        with tarfile.open(top, "r:") as archive:
            for entry in archive:
                vars(archive)["members"] = []  # which would be a list of all entries
                if not (entry.isreg() or entry.islnk() or entry.issym()):
                    continue
                name = plain_name(top, entry.name)
                if hidden(PurePosixPath(name)):
                    continue
                if name in links:
                    raise ValueError(f"{top} holds two files of the name {name}; unpack it and give the folder")
                if entry.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
                elif entry.islnk():
                    links[name] = posixpath.normpath(entry.linkname)
                elif entry.issparse() or entry.size < 0:
                    raise ValueError(f"{top}: {name} is stored as a sparse file; pack it again without sparse files")
                else:
                    count += 1
                    yield Span(name, entry.offset_data, entry.size)
            end = archive.offset
        with top.open("rb") as file:
            file.seek(end)
            if file.read(512) != bytes(512):
                raise ValueError(f"{top} is cut off or damaged after {count:,} files; pack it again")
    except (tarfile.TarError, OSError, EOFError, OverflowError) as error:
        raise ValueError(f"{top} cannot be read as a tar archive ({error}); pack it again") from None


def _linked(top: Path, files: dict[str, Span], links: dict[str, str]) -> Iterator[Span]:
    """The same places under the names of links to files and to folders."""
    left = LINKED * len(files) + 1000
    for name, target in links.items():
        for _ in range(100):  # a link to a link; round ones lead nowhere
            target = links.get(target, target)
        if target in files:
            yield files[target]._replace(name=name)
            continue
        below = [found for found in files if found.startswith(f"{target}/")]
        left -= 1 + len(below)
        if left < 0:
            raise ValueError(f"{top}: its links name the same files again and again; pack it without links")
        if not below:
            yield Span(name, 0, NOTHING)
        for found in below:
            yield files[found]._replace(name=name + found.removeprefix(target))
