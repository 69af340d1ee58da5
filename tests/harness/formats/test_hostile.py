"""Files that are made to end a process, or to take its time or memory, are refused in one line; and a fuzzer."""

import io
import itertools
import json
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from . import fuzz_reader
from .limited import outcomes

PRIME = 2**61 - 1
"""Python's hash of a number is the number modulo this."""
MANY = 120_000


def long(number: int) -> bytes:
    """The instruction that pushes a whole number."""
    raw = pickle.encode_long(number)
    return b"\x8a" + bytes([len(raw)]) + raw


def chain(name: bytes, step: bytes, times: int = 50_000) -> bytes:
    """A pickle of objects inside one another: 0 in the memo is the last one, 1 is the class."""
    return b"\x80\x04c" + name + b"\nq\x010Nq\x00" + (b"0" + step + b"q\x00") * times + b"."


MULTIPLES = [long(k * PRIME) for k in range(1, MANY)]


def complex_keys() -> bytes:
    """Complex numbers a + b i, whose hash is that of a plus 1000003 times that of b, all with one hash."""
    scalar = b"\x80\x02cnumpy.core.multiarray\nscalar\nq\x01cnumpy\ndtype\nU\x03c16\x85Rq\x02}("
    rows = np.arange(1.0, MANY)
    numbers = (1000003 * (MANY - rows) + 1j * rows).astype("<c16")
    return scalar + b"".join(b"h\x01h\x02C\x10" + number.tobytes() + b"\x86RN" for number in numbers) + b"u."


def storage(elements: int) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.zeros(elements)._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


class Holds:
    """Pickles as a torch file, of these bytes, inside this one."""

    def __init__(self, content: bytes):
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.content,)


def files_in_files(levels: int) -> bytes:
    raw = storage(50_000)
    for _ in range(levels):
        buffer = io.BytesIO()
        torch.save(Holds(raw), buffer, pickle_protocol=4, _use_new_zipfile_serialization=False)
        raw = buffer.getvalue()
    return pickle.dumps(Holds(raw))


def saved(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    return buffer.getvalue()


def often(value: Any, times: int = 3000) -> nn.Module:
    """A module that lists one parameter under many names."""
    module = nn.Module()
    module._parameters.update({f"p{i}": value for i in range(times)})
    return module


def modules_often(value: Any, times: int = 3000) -> nn.Module:
    module, child = nn.Module(), often(value, 1)
    module._modules.update({f"m{i}": child for i in range(times)})
    return module


BROAD = nn.Parameter(torch.ones(1).expand(2_000_000), requires_grad=False)
"""Two million numbers that take four bytes."""


def entries(count: int) -> bytes:
    header = json.dumps({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}).encode()
    return struct.pack("<Q", len(header)) + header


def aliases() -> bytes:
    names = "abcdefghijkl"
    lines = [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise(names)]
    return "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *lines]).encode()


def npy(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def zeros_in_npz() -> bytes:
    """Features, and beside them an array that says that it unpacks to 6 GiB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("features", np.ones((4, 3), np.float32)), ("labels", np.array([0, 0, 1, 1]))):
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array)
        archive.writestr("zeros.npy", npy((6 * 2**30,)) + bytes(2**20))
        archive.infolist()[-1].file_size = 7 * 2**30
    return buffer.getvalue()


FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "350,000 slices": (
        "checkpoint",
        lambda: chain(b"builtins\nslice", b"h\x01h\x00\x85R", 350_000),
        "inside one another",
    ),
    "slices of Python 2": (
        "checkpoint",
        lambda: chain(b"__builtin__\nslice", b"h\x01h\x00\x85R"),
        "inside one another",
    ),
    "records in records": ("checkpoint", lambda: chain(b"app\nThing", b"h\x01h\x00\x85R"), "inside one another"),
    "states in states": ("checkpoint", lambda: chain(b"app\nThing", b"h\x01)Rh\x00b"), "inside one another"),
    "metadata in metadata": (
        "checkpoint",
        lambda: chain(b"collections\nOrderedDict", b"h\x01)R}U\x09_metadatah\x00sb"),
        "inside one another",
    ),
    "tuples in tuples": ("checkpoint", lambda: b"\x80\x02)" + b"\x85" * 50_000 + b".", "inside one another"),
    "lists in lists": ("checkpoint", lambda: b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "inside one another"),
    "calls of calls": ("checkpoint", lambda: b"\x80\x02capp\nThing\n" + b")R" * 50_000 + b".", "opened"),
    "keys with one hash": ("checkpoint", lambda: b"\x80\x02}(" + b"N".join(MULTIPLES) + b"Nu.", "64 bits"),
    "keys one by one": ("checkpoint", lambda: b"\x80\x02}" + b"Ns".join(MULTIPLES) + b"Ns.", "64 bits"),
    "a set with one hash": ("checkpoint", lambda: b"\x80\x04\x8f(" + b"".join(MULTIPLES) + b"\x90.", "64 bits"),
    "a frozenset with one hash": ("checkpoint", lambda: b"\x80\x04(" + b"".join(MULTIPLES) + b"\x91.", "64 bits"),
    "a called set with one hash": (
        "checkpoint",
        lambda: b"\x80\x02c__builtin__\nset\n](" + b"".join(MULTIPLES) + b"e\x85R.",
        "64 bits",
    ),
    "an ordered dictionary with one hash": (
        "checkpoint",
        lambda: b"\x80\x02ccollections\nOrderedDict\n](" + b"".join(k + b"N\x86" for k in MULTIPLES) + b"e\x85R.",
        "64 bits",
    ),
    "tuples with large numbers": (
        "checkpoint",
        lambda: b"\x80\x02}(" + b"".join(k + b"\x85N" for k in MULTIPLES) + b"u.",
        "64 bits",
    ),
    "complex keys with one hash": ("checkpoint", complex_keys, "hash of another"),
    "a number of a megabyte as key": (
        "checkpoint",
        lambda: b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"q\x000}(" + b"h\x00N" * 10**6 + b"u.",
        "64 bits",
    ),
    "a long tuple as key a million times": (
        "checkpoint",
        lambda: b"\x80\x02(" + b"K\x01" * 999 + b"tq\x000}(" + b"h\x00N" * 1_200_000 + b"u.",
        "instructions",
    ),
    "one tensor under 3,000 names": ("checkpoint", lambda: saved(often(BROAD)), "far more memory"),
    "one array under 3,000 names": ("checkpoint", lambda: pickle.dumps(often(np.ones(500_000))), "far more memory"),
    "150 files in files": ("checkpoint", lambda: files_in_files(150), "files are inside one another"),
    "300,000 tensors of nothing": ("checkpoint", lambda: entries(300_000), "has 300,000 tensors"),
    "nested aliases": ("settings", aliases, r"uses the alias \*a"),
    "nested lists in YAML": ("settings", lambda: b"a: " + b"[" * 5000 + b"]" * 5000, "inside one another"),
    "nested lists in JSON": ("json", lambda: b"[" * 100_000, "is no JSON"),
    "101 lists in JSON": ("json", lambda: b"[" * 101 + b"]" * 101, "more than 100 lists"),
    "NaN in JSON": ("json", lambda: b'{"beta": [NaN]}', "has beta=nan"),
    "an infinite number in JSON": ("json", lambda: b'{"a": {"beta": -1e999}}', "has beta=-inf"),
    "NaN in YAML": ("settings", lambda: b"beta: .nan", "has beta=nan"),
    "a large YAML file": ("settings", lambda: b"a: 1\n" * 100_000, "more than 262,144 bytes"),
    "6 GiB of zeros beside the features": ("features", zeros_in_npz, "does not say which classes are novel"),
    "zeros that are asked for": ("arrays", zeros_in_npz, "array zeros cannot be read .*unpacks to"),
    "a negative shape": ("arrays", lambda: npy((-5, 8)), "cut off or damaged"),
    "a huge shape": ("arrays", lambda: npy((2**62, 2**62)), "cut off or damaged"),
    "a type of many bytes": ("arrays", lambda: npy((2**31, 0), f"|V{2**31 - 1}"), "opened"),
    "a header that is no Python": ("arrays", lambda: npy((1,)).replace(b"(1,)", b"((1,"), "not a readable"),
    "a family that opens no files": ("load", lambda: told({"family": "held_out"}), "held_out, which opens no files"),
    "a family that is a list": ("load", lambda: told([1]), "no mapping"),
    "metadata without an end": ("load", lambda: told_text("[" * 100_000), "no JSON"),
    "a family with sizes": ("load", lambda: told(VAE | {"latent_dim": 2**30}), "holds another network"),
    "a family with negative sizes": ("load", lambda: told(VAE | {"latent_dim": -4}), "describes no network"),
    "a family without sizes": ("load", lambda: told({"family": "vae"}), "it has no 'channels'"),
    "a family with many layers": (
        "load",
        lambda: told(VAE | {"family": "latent_diffusion", "width": 8, "depth": 10**8}),
        "far more",
    ),
}
"""Files by name: their opener, what writes them, and what the line of the refusal says."""

VAE = {"family": "vae", "channels": 1, "size": 8, "latent_dim": 2}


def told_text(text: str) -> bytes:
    return fuzz_reader.written(lambda path: save_file({"a": torch.ones(1)}, path, {"assay": text}))


def told(metadata: Any) -> bytes:
    return told_text(json.dumps(metadata))


def test_hostile_files_are_refused_in_one_line(tmp_path: Path) -> None:
    files = []
    for i, (opener, make, _) in enumerate(FILES.values()):
        (tmp_path / str(i)).write_bytes(make())
        files.append((opener, tmp_path / str(i)))
    found = outcomes(files)
    for (name, (_, _, match)), came in zip(FILES.items(), found, strict=True):
        with pytest.raises(ValueError, match=match):
            raise ValueError(came)
        assert not came.startswith(("escaped", "hung", "died")), (name, came)


def pipeline(folder: Path) -> Path:
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    return folder


def test_only_regular_files_of_a_folder_are_opened(tmp_path: Path) -> None:
    odd: dict[str, Callable[[Path], Any]] = {
        "device": lambda path: path.symlink_to("/dev/zero"),
        "pipe": os.mkfifo,
        "socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
        "link to nothing": lambda path: path.symlink_to("nothing"),
    }
    folders = []
    for kind, make in odd.items():
        for name in ("unet/weights.safetensors", "unet/config.json"):
            folders.append(pipeline(tmp_path / kind / name.replace("/", ".")))
            make(folders[-1] / name)
    found = outcomes([("load", folder) for folder in folders])
    assert all("is no regular file, so nothing in" in came for came in found), found


def test_the_fuzzer_opens_what_it_has_not_changed(tmp_path: Path) -> None:
    files = []
    for kind, (opener, make) in fuzz_reader.KINDS.items():
        (tmp_path / kind).write_bytes(make())
        files.append((opener, tmp_path / kind))
    assert outcomes(files) == ["opened"] * len(files)


def test_damaged_files_are_opened_or_refused() -> None:
    """Each run is decided by its number, so a failure is not an accident of this day."""
    counts, faults, peak = fuzz_reader.fuzz(0, 3000, seconds=300)
    assert not faults
    assert sum(counts.values()) == 3000
    assert peak < 1.5 * 2**30
    for kind in fuzz_reader.KINDS:
        assert counts[kind, "opened"] > 0, f"no damaged {kind} is opened: it is refused before it is read"
        assert counts[kind, "refused"] > 0
