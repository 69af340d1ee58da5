"""Files and their names: atomic writes, digests, and the one folder that assay may fill on its own."""

import glob
import hashlib
import json
import os
from functools import cache
from pathlib import Path


def cache_folder() -> Path:
    """$ASSAY_CACHE, else $XDG_CACHE_HOME/assay, else ~/.cache/assay. It can be deleted without loss."""
    if own := os.environ.get("ASSAY_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "assay"


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part. Makes the folders it needs.

    Temporary files that a killed process left of the same file are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # it may be a link to somewhere else
    temporary.write_bytes(content)
    os.replace(temporary, path)
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not _runs(int(left_over.name.split(".")[-2])):
            left_over.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def require_writable(folder: Path) -> None:
    """Make a results folder. Raises OSError with the fix when it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(folder, os.W_OK) else "permission denied"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise OSError(f"cannot write results to {folder.absolute()} ({why}); choose another folder with out=DIR")


def sha256_of(path: Path) -> str:
    """sha256 of a file's content; a file that has not changed is read once per process."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256_of(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: object) -> str:
    """The one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(*parts: object) -> str:
    """sha256 of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical(parts).encode()).hexdigest()
