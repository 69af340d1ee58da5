"""The arrays of an HDF5 file, read by rows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

MAGIC = b"\x89HDF\r\n\x1a\n"
SMALL = 2**26
"""Arrays of at most so many bytes are read at once; larger ones by rows."""
EXPANDS = 1000
"""Values may take so many times the bytes of the file; compression of images does not come near."""
INSTALL = "pip install 'assay[files]'"


class Hdf5(Mapping[str, Any]):
    """The data sets of a file by name, those in groups as GROUP/NAME. Only what is in the file itself is read: links to
    other files are no data sets of it. Raises ValueError, in one line, where it is damaged.
    """

    def __init__(self, file: Path):
        try:
            import h5py
        except ImportError:
            raise ValueError(f"{file} is an HDF5 file, which h5py reads: {INSTALL}") from None
        self._path = file
        try:
            self._file = h5py.File(file, "r", locking=False)
            self._names = list[str]()
            self._file.visititems(lambda name, found: self._names.append(name) if _is_set(found) else None)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise self._unreadable(error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> NDArray[Any] | Any:
        if name not in self._names:
            raise KeyError(name)
        try:
            found = self._file[name]
            if found.is_virtual or found.external:
                raise ValueError(f"{self._path}: {name} has its values in other files; copy them into one")
            if found.nbytes > EXPANDS * self._path.stat().st_size + SMALL:
                raise ValueError(f"{self._path}: {name} of shape {found.shape} says it is far larger than the file")
            if found.dtype.kind == "O":
                strings = found.asstr() if found.dtype.metadata and found.dtype.metadata.get("vlen") is str else None
                if strings is None:
                    raise ValueError(f"{self._path}: {name} holds lists of any length; give decoded images of one size")
                return strings[()].astype(str)
            return found[()] if found.nbytes <= SMALL else found
        except (OSError, RuntimeError, KeyError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> ValueError:
        return ValueError(f"{self._path} cannot be read as an HDF5 file ({error}); it is cut off or damaged")


def _is_set(found: Any) -> bool:
    return hasattr(found, "dtype") and hasattr(found, "nbytes")
