"""Files of arrays: one is read when somebody asks for it, and those of NumPy are mapped into memory where possible."""

import math
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from . import hdf5, tensor_files
from .cifar import is_cifar, is_packed_cifar, read_cifar
from .pickles import LEGACY

ENCRYPTED = 1
"""The flag of an entry of a zip archive that needs a password."""
CHUNK = 2**24
UNPACKED_BYTES, TIMES = 2**30, 20
"""Most bytes of an array that was stored with compression, or this many times what it takes in the file."""
AS_ARRAY = "save what is in it with numpy.save('FILE.npy', array) and give that file"
AS_FOLDER = "give the folder of the images instead"
UNPACKED = "unpack it and give the folder"
IMAGES_ONLY = "only images are read from it"
KINDS = (
    (0, b"\x89PNG", "a PNG image", AS_FOLDER),
    (0, b"\xff\xd8\xff", "a JPEG image", AS_FOLDER),
    (0, b"GIF8", "a GIF image", AS_FOLDER),
    (0, b"BM", "a BMP image", AS_FOLDER),
    (0, b"II*\0", "a TIFF image", AS_FOLDER),
    (0, b"MM\0*", "a TIFF image", AS_FOLDER),
    (8, b"WEBP", "a WebP image", AS_FOLDER),
    (4, b"ftypavif", "an AVIF image", AS_FOLDER),
    (257, b"ustar", "a tar archive", IMAGES_ONLY),
    (0, b"\x1f\x8b", "compressed with gzip", "decompress it, and unpack it where it is an archive"),
    (0, b"BZh", "compressed with bzip2", "decompress it, and unpack it where it is an archive"),
    (0, b"\xfd7zXZ", "compressed with xz", "decompress it, and unpack it where it is an archive"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it, and unpack it where it is an archive"),
    (0, b"7z\xbc\xaf", "a 7z archive", UNPACKED),
    (0, b"Rar!", "a RAR archive", UNPACKED),
    (0, b"PAR1", "a Parquet file", IMAGES_ONLY),
    (0, b"ARROW1", "an Arrow file", IMAGES_ONLY),
    (16, b"\xde\xc0\xef\xbe", "an LMDB database", IMAGES_ONLY),
    (0, b"MATLAB", "a MATLAB file", AS_ARRAY),
    (0, b"%PDF", "a PDF document", AS_ARRAY),
    (0, b"\x80\x02", "a pickle", AS_ARRAY),
    (0, b"\x80\x03", "a pickle", AS_ARRAY),
    (0, b"\x80\x04", "a pickle", AS_ARRAY),
    (0, b"\x80\x05", "a pickle", AS_ARRAY),
)
"""Kinds of files by the bytes that they have at a place, what they are called, and what to do with one."""


class Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of a .npz file by name. An array is read when it is asked for; one that was stored without compression
    is mapped into memory. Raises ValueError with the file and the array that cannot be read.
    """

    def __init__(self, file: Path):
        self._file = file
        self._read: dict[str, NDArray[Any]] = {}
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._read:
            entry = self._entries[name]
            try:
                self._read[name] = self._array(entry)
            except Exception as error:  # zipfile, zlib and numpy's parser of headers raise many
                raise ValueError(
                    f"{self._file}: array {name} cannot be read ({_short(error)}); save it again"
                ) from None
        return self._read[name]

    def _array(self, entry: zipfile.ZipInfo) -> NDArray[Any]:
        with zipfile.ZipFile(self._file) as archive, archive.open(entry) as member:
            header = _header(member, entry.file_size)
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED:
                if header.nbytes > max(UNPACKED_BYTES, TIMES * entry.compress_size):
                    raise ValueError(f"it unpacks to {header.nbytes:,} bytes, more than {TIMES} times what it takes")
                return _text(_inflated(member, header))
        with self._file.open("rb") as file:
            file.seek(entry.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
        return _text(_mapped(self._file, header, entry.header_offset + 30 + name + extra))


def holds_arrays(path: Path) -> bool:
    """Whether a folder or file holds arrays and not files: what `read_arrays` reads, as far as its beginning tells."""
    if path.is_dir():
        return is_cifar(path)
    if path.suffix.lower() == ".zip" or not path.is_file():
        return False
    begin = _begin(path)
    known = begin.startswith((npy.MAGIC_PREFIX, hdf5.MAGIC)) or _is_torch(path, begin)
    return known or zipfile.is_zipfile(path) or is_packed_cifar(path)


def read_arrays(file: Path, name: str) -> Mapping[str, Any]:
    """The arrays of a .npz or HDF5 file, of a torch file or of CIFAR by name, or {name: that of a .npy or torch file}.

    Those of .npy and uncompressed .npz files are mapped into memory; large ones of HDF5 are read by rows.

    Raises ValueError when the file is none of these, or holds pickled objects; it says what it is, where it is known.
    """
    if file.is_dir() and not is_cifar(file):
        raise ValueError(f"{file} is a directory; give a .npy or .npz file")
    if file.is_dir() or is_packed_cifar(file):
        return read_cifar(file)
    begin = _begin(file)
    if begin.startswith(hdf5.MAGIC):
        return hdf5.Hdf5(file)
    if _is_torch(file, begin):
        return tensor_files.read_tensors(file, name)
    try:
        with file.open("rb") as opened:
            if begin.startswith(npy.MAGIC_PREFIX):
                return {name: _text(_mapped(file, _header(opened, file.stat().st_size), 0))}
        if zipfile.is_zipfile(file) and (arrays := Arrays(file)):
            return arrays
    except Exception as error:
        raise ValueError(f"{file} is not a readable .npy or .npz file without pickles ({_short(error)})") from None
    kind = kind_of(file) or f"not a readable .npy or .npz file without pickles; {AS_ARRAY}"
    raise ValueError(f"{file} is {kind}")


def _begin(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(300)


def _is_torch(file: Path, begin: bytes) -> bool:
    """Whether it is what `torch.save` or safetensors writes. An archive of one is known by its entries."""
    if file.suffix.lower() == ".safetensors" or (begin.startswith(b"\x80") and LEGACY in begin[:32]):
        return True
    if not begin.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # zipfile raises many
        return file.suffix.lower() in tensor_files.SUFFIXES


def kind_of(file: Path) -> str:
    """What a file is and what to do with it, in words, where it is of a kind that cannot be read; else nothing."""
    begin = _begin(file)
    for place, magic, kind, fix in KINDS:
        if begin[place:].startswith(magic):
            return f"{kind}; {fix}"
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        return f"a zip archive with {names[0] if names else 'nothing'} in it; {UNPACKED}, or as FILE.zip"
    return ""


class Header(NamedTuple):
    """shape, type and order of an array in the .npy format, and how many bytes come before its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    length: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _header(file: IO[bytes], available: int) -> Header:
    """The header of an array. Raises ValueError where it promises more than the `available` bytes of the file."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    header = Header(shape, dtype, "F" if fortran else "C", file.tell())
    if dtype.hasobject:
        raise ValueError("not without pickles: its elements are Python objects")
    if min(shape, default=0) < 0 or available - header.length < header.nbytes:
        raise ValueError(f"cut off or damaged: shape {shape} of {dtype} does not fit into {available:,} bytes")
    return header


def _mapped(file: Path, header: Header, begin: int) -> NDArray[Any]:
    if not header.nbytes:  # nothing can be mapped
        return np.zeros(header.shape, header.dtype)
    return np.memmap(file, header.dtype, "r", begin + header.length, header.shape, header.order)


def _inflated(member: IO[bytes], header: Header) -> NDArray[Any]:
    flat = np.zeros(math.prod(header.shape), header.dtype)
    into = flat.view(np.uint8)
    for start in range(0, header.nbytes, CHUNK):
        part = member.read(min(CHUNK, header.nbytes - start))
        if len(part) < min(CHUNK, header.nbytes - start):
            raise EOFError("it is shorter than it says")
        into[start : start + len(part)] = np.frombuffer(part, np.uint8)
    return flat.reshape(header.shape, order=header.order)


def _text(array: NDArray[Any]) -> NDArray[Any]:
    """The array. Raises ValueError where it is of text and holds a number that is no character."""
    if array.dtype.kind == "U" and array.dtype.itemsize and array.size:
        characters = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if characters.max() > sys.maxunicode:
            raise ValueError("damaged: it holds text with a character that does not exist")
    return array


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
