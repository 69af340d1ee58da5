"""Nothing in a checkpoint runs, a small file cannot ask for much, and a damaged one is refused in one line."""

import io
import json
import os
import pickle
import re
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.harness.formats import checkpoint, pickles
from assay.harness.formats.checkpoint import read_checkpoint, tensors_of

from ...nvlabs import dump, dumps, instance, named, persistent, plain, record, save
from .checkpoints import ARRAYS, BUFFERS, TENSORS, Calls, content, loads


def refused(path: Path, match: str | None = None) -> None:
    """The one line that says why, with the path in it."""
    with pytest.raises(ValueError, match=match) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()


class Trap:
    """A class that runs a command whenever it is made or given a state."""

    def __new__(cls, command: str = "") -> "Trap":
        os.system(command or "true")
        return super().__new__(cls)

    def __setstate__(self, command: str) -> None:
        os.system(command)


TRAP = b"\x80\x04c" + __name__.encode() + b"\nTrap\n"


def text(value: str) -> bytes:
    """The instruction that pushes a short text."""
    return b"U" + bytes([len(value)]) + value.encode()


def torch_bytes(value: Any, legacy: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def torch_loads(raw: bytes) -> Any:
    return torch.load(io.BytesIO(raw), weights_only=False)


ATTACKS: dict[str, tuple[Callable[[str], bytes], Callable[[bytes], Any]]] = {
    "source in a record": (
        lambda c: dumps({"G_ema": record("Generator", TENSORS, {}, source=f"import os; os.system({c!r})")}),
        loads,
    ),
    "os.system in a pickle": (lambda c: pickle.dumps({"G_ema": Calls(os.system, c)}), loads),
    "os.system in a pickle of protocol 2": (lambda c: pickle.dumps({"G_ema": Calls(os.system, c)}, 2), loads),
    "os.system in a torch file": (lambda c: torch_bytes({"a": Calls(os.system, c)}, False), torch_loads),
    "os.system in a legacy torch file": (lambda c: torch_bytes({"a": Calls(os.system, c)}, True), torch_loads),
    "exec": (lambda c: pickle.dumps(Calls(exec, f"import os; os.system({c!r})")), loads),
    "nested torch file": (
        lambda c: pickle.dumps(Calls(torch.storage._load_from_bytes, torch_bytes(Calls(os.system, c), True))),
        loads,
    ),
    "nested pickle": (
        lambda c: pickle.dumps(Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.system, c)))),
        loads,
    ),
    "nested in a torch file": (
        lambda c: torch_bytes(Calls(torch.storage._load_from_bytes, torch_bytes(Calls(os.system, c), True)), False),
        torch_loads,
    ),
    "instruction INST": (lambda c: b"\x80\x02(" + text(c) + b"ios\nsystem\n.", loads),
    "instruction OBJ": (lambda c: b"\x80\x02(cos\nsystem\n" + text(c) + b"o.", loads),
    "instruction NEWOBJ": (lambda c: TRAP + text(c) + b"\x85\x81.", loads),
    "instruction NEWOBJ_EX": (lambda c: TRAP + b")}" + text("command") + text(c) + b"s\x92.", loads),
    "instruction BUILD": (lambda c: TRAP + b")\x81" + text(c) + b"b.", loads),
    "a function from getattr": (
        lambda c: pickle.dumps(Calls(Calls(getattr, Calls(__import__, "os"), "system"), c)),
        loads,
    ),
    "the result of a call is called": (
        lambda c: pickle.dumps(Calls(Calls(__import__("functools").partial, os.system, c))),
        loads,
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_works_on_pickle_does_nothing_here(tmp_path: Path, name: str) -> None:
    build, plain_load = ATTACKS[name]
    mark = tmp_path / "executed"
    raw = build(f"touch {mark}")
    path = tmp_path / "attack"
    path.write_bytes(raw)
    try:
        found = read_checkpoint(path)
        tensors_of(found.content["G_ema"] if isinstance(found.content, dict) else found.content)
    except (ValueError, KeyError):
        pass
    assert not mark.exists()
    try:
        plain_load(raw)
    except Exception as error:  # it has run by then
        print(error)
    assert mark.exists(), "the attack is not real"


def test_reading_imports_nothing(tmp_path: Path) -> None:
    names = [b"this", b"antigravity", b"idlelib.idle", b"torch.utils.tensorboard", b"assay.no_such_module"]
    raw = b"\x80\x02(" + b"".join(b"c" + name + b"\nx\n" for name in names) + b"t."
    before = set(sys.modules)
    found = content(tmp_path, raw)
    assert [inert.name for inert in found] == [f"{name.decode()}.x" for name in names]
    assert set(sys.modules) == before


def test_a_file_changes_neither_the_reader_nor_its_answers(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever it finds: of functions their defaults, of objects their methods."""
    for answer in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cnumpy\nndarray\n"):
        (tmp_path / "a").write_bytes(b"\x80\x02" + answer + b"N}" + text("__defaults__") + b"K\x01\x85s\x86b.")
        refused(tmp_path / "a", "attributes")
    set_two = b"}(" + text("items") + b"K\x01" + text("_metadata") + b"K\x02ub."
    ordered = content(tmp_path, b"\x80\x02ccollections\nOrderedDict\n)R" + set_two)
    assert (list(ordered.items()), ordered._metadata) == ([], 2)
    inert = content(tmp_path, b"\x80\x02capp\nThing\n)R" + set_two)
    assert (inert.items, inert.state) == ([], {"items": 1, "_metadata": 2})


def test_an_inert_record_keeps_what_it_is_given(tmp_path: Path) -> None:
    raw = b"\x80\x02capp\nThing\n(K\x01K\x02tR(K\x03K\x04eK\x05K\x06s}U\x01aK\x07s}U\x01bK\x08s\x86b."
    thing = content(tmp_path, raw)
    assert (thing.name, thing.args, thing.kwargs) == ("app.Thing", (1, 2), {})
    assert (thing.items, thing.state) == ([3, 4, (5, 6)], {"a": 7, "b": 8})
    assert not callable(thing)


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"\x80\x02U\x010Q.", "storages"),  # a persistent id in a plain pickle
        (b"\x80\x02P0\n.", "storages"),
        (b"\x80\x02\x82\x01.", "EXT1"),  # the extension registry of the process
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02K\x01)R.", "calls a int"),
        (b"\x80\x02]K\x01K\x02s.", "items of a list"),
        (b"\x80\x02}K\x01a.", "appends to a dict"),
        (pickle.dumps(np.array([{}])), "numpy type 'O8'"),
        (pickle.dumps(np.array(["text"])), "numpy type"),
        (pickle.dumps(np.array([(1, 2.0)], dtype="i4,f8")), "numpy type"),
        (pickle.dumps(np.array([{}]), 2), "numpy type 'O8'"),
        (dumps(persistent("Generator", {}), 4).replace(b"class\x94", b"other\x94"), "is not a class"),
    ],
)
def test_what_has_no_place_in_a_checkpoint_is_refused(tmp_path: Path, raw: bytes, match: str) -> None:
    (tmp_path / "a").write_bytes(raw)
    refused(tmp_path / "a", match)


DEEP = 200_000
SHARED = b"\x80\x02(" + b"N" * 100_000 + b"lq\x00("  # a list of 100,000; then what uses it, over and over
LONG = b"X" + struct.pack("<I", 200_000) + b"a" * 200_000
GREEDY = {
    "a bytearray of 16 TiB": (b"\x80\x05\x96" + struct.pack("<Q", 2**44) + b".", "too much memory|only 1 remain"),
    "a bytearray of 8 EiB": (b"\x80\x05\x96" + struct.pack("<Q", 2**63 - 1) + b".", "too large|too much memory"),
    "bytes of 16 TiB": (b"\x80\x04\x8e" + struct.pack("<Q", 2**44) + b".", "too much memory|only 1 remain"),
    "text of 16 TiB": (b"\x80\x04\x8d" + struct.pack("<Q", 2**44) + b".", "too much memory|only 1 remain"),
    "text of 4 GiB": (b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"abc.", "only 4 remain"),
    "a number of -1 bytes": (b"\x80\x02\x8b" + struct.pack("<i", -1) + b".", "count < 0"),
    "a deep tuple as key": (b"\x80\x02}" + b")" + b"\x85" * DEEP + b"Ns.", "1000 parts"),
    "a deep tuple in a set": (b"\x80\x04\x8f(" + b")" + b"\x85" * DEEP + b"\x90.", "1000 parts"),
    "a deep tuple in a frozenset": (b"\x80\x04(" + b")" + b"\x85" * DEEP + b"\x91.", "1000 parts"),
    "a key of 2^60 parts": (b"\x80\x02}K\x01" + b"2\x86" * 60 + b"Ns.", "1000 parts"),
    "a frozenset as key": (b"\x80\x04}(K\x01\x91Ns.", "key that is a frozenset"),  # two may take for ever to compare
    "2000 tuples of one list": (SHARED + b"ctorch\nSize\nh\x00\x85R" * 2000 + b"t.", "far more memory"),
    "2000 sets of one list": (SHARED + b"c__builtin__\nset\nh\x00\x85R" * 2000 + b"t.", "far more memory"),
    "2000 calls with one list": (
        SHARED + b"ctorch._utils\n_rebuild_parameter\nh\x00R" * 2000 + b"t.",
        "far more memory",
    ),
    "2000 bytes of one text": (
        b"\x80\x02" + LONG + b"q\x00(" + b"c_codecs\nencode\nh\x00\x85R" * 2000 + b"t.",
        "far more memory",
    ),
    "20,000 classes": (b"\x80\x02(" + b"".join(b"ca\n%d\n" % i for i in range(20_000)) + b"t.", "far more memory"),
    "a name of 200,000 letters": (b"\x80\x04" + LONG + b"\x94h\x00\x93.", "more than 1000 characters"),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_small_file_that_asks_for_much_is_refused(tmp_path: Path, name: str) -> None:
    """With pickle.load, the deep tuples end the process, and the others take its memory or its time."""
    raw, match = GREEDY[name]
    (tmp_path / "a").write_bytes(raw)
    start = time.process_time()
    refused(tmp_path / "a", match)
    assert time.process_time() - start < 10


def test_memo_numbers_cost_nothing(tmp_path: Path) -> None:
    """It makes pickle.load take 64 GiB."""
    assert content(tmp_path, b"\x80\x02]r\xff\xff\xff\xff.") == []


def test_the_number_of_instructions_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", TENSORS)
    monkeypatch.setattr(pickles, "INSTRUCTIONS", 50)
    refused(tmp_path / "a", "more than 50 instructions")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (4, (1,), (1,)),
        (-1, (1,), (1,)),
        (2**70, (1,), (1,)),
        (0, (2,), (4,)),
        (0, (2,), (2**59,)),
        (0, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**31, 2**31, 2**31), (0, 0, 0)),
        (0, (2, 2), (1,)),
        (0, (True,), (1,)),
        (0, [4], [1]),
        (0, (1.0,), (1,)),
        (0, (1,) * 65, (1,) * 65),
    ],
)
def test_a_tensor_stays_inside_its_storage(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    tensor = torch.arange(4.0)
    storage = tensor._typed_storage()

    class Rebuilt(Calls):
        def __init__(self, *place: Any):
            super().__init__(torch._utils._rebuild_tensor_v2, storage, *place, False, OrderedDict())

    for write in (lambda v: torch_bytes(v, False), lambda v: torch_bytes(v, True), pickle.dumps):
        assert content(tmp_path, write(Rebuilt(1, (2,), (2,)))).tolist() == [1, 3]
        assert content(tmp_path, write(Rebuilt(4, (0,), (1,)))).tolist() == []
        (tmp_path / "a").write_bytes(write(Rebuilt(offset, size, stride)))
        refused(tmp_path / "a", "a tensor|far more memory")


def rezipped(raw: bytes, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def test_a_storage_larger_than_its_entry_is_refused(tmp_path: Path) -> None:
    raw = torch_bytes(torch.arange(8.0), False)

    def longer(name: str, data: bytes) -> bytes:  # 8 elements, in the storage and in the tensor, become 200
        return data.replace(b"K\x08", b"K\xc8") if name.endswith("data.pkl") else data

    (tmp_path / "a").write_bytes(rezipped(raw, longer))
    refused(tmp_path / "a", "storage")
    (tmp_path / "a").write_bytes(rezipped(raw, lambda _, data: data))
    assert torch.equal(read_checkpoint(tmp_path / "a").content, torch.arange(8.0))


def test_storages_that_a_legacy_file_leaves_out_are_not_made_up(tmp_path: Path) -> None:
    """torch.load, with weights_only=True too, gives whatever was in memory (torch 2.13)."""
    raw = torch_bytes({"a": torch.arange(8.0)}, True)
    (key,) = re.findall(rb"\]q\x00X(.{4}\d+)q\x01a\.", raw)
    cut = raw[: raw.index(b"]q\x00X" + key)]
    for end in (b"].", b"]q\x00(X" + key + b"h\x01e.", b""):
        (tmp_path / "a").write_bytes(b"".join([cut, b"\x80\x02", end, b"\0" * 100]))
        refused(tmp_path / "a")


def test_a_legacy_storage_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    raw = torch_bytes(torch.arange(8.0), True).replace(b"K\x08", b"\x8a\x05\0\0\0\0\x40")  # 2^38 elements
    (tmp_path / "a").write_bytes(raw)
    refused(tmp_path / "a", "storage")


def test_a_zip_bomb_is_refused_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = torch_bytes(torch.zeros(2_000_000), False)
    (tmp_path / "deflated").write_bytes(rezipped(raw, lambda _, data: data, zipfile.ZIP_DEFLATED))
    assert (tmp_path / "deflated").stat().st_size < 20_000
    small = io.BytesIO(torch_bytes(torch.zeros(1000), False))
    with zipfile.ZipFile(small, "a") as archive:  # 1000 entries that are all the same bytes of the file
        (entry,) = (e for e in archive.infolist() if e.filename.endswith("/data/0"))
        for i in range(1, 1001):
            twin = zipfile.ZipInfo(entry.filename[:-1] + str(i))
            twin.header_offset, twin.CRC = entry.header_offset, entry.CRC
            twin.file_size = twin.compress_size = entry.file_size
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "overlapping").write_bytes(small.getvalue())

    def unpack(*_: Any, **__: Any) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", unpack)
    refused(tmp_path / "deflated", "expand")
    refused(tmp_path / "overlapping", "expand")


def shared_modules(levels: int) -> Any:
    """A module with two children, which are one, and so on: 2^levels names."""
    module = instance("a.Layer", _parameters={}, _buffers={}, _modules={})
    for _ in range(levels):
        module = instance("a.Layer", _parameters={}, _buffers={}, _modules={"a": module, "b": module})
    return module


def test_modules_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PARTS", 10_000)
    round_trip = instance("a.Layer", _parameters={}, _buffers={}, _modules={})
    round_trip._modules["again"] = round_trip
    monkeypatch.setattr(checkpoint, "DEPTH", 30)
    for module in (round_trip, shared_modules(25), shared_modules(40)):
        with pytest.raises(ValueError, match="nested more than"):
            tensors_of(content(tmp_path, dumps(module)))
    long = instance("a.Layer", _parameters={"x" * 2000: torch.ones(1)}, _buffers={}, _modules={})
    with pytest.raises(ValueError, match="no text of at most"):
        tensors_of(content(tmp_path, dumps(long)))


@pytest.mark.parametrize(
    "state", [None, {}, {"_modules": 3}, {"_modules": {}, "_parameters": {"a": "text"}}, {"_modules": {3: None}}, []]
)
def test_tensors_of_what_is_no_module(tmp_path: Path, state: Any) -> None:
    module = named("a.Layer")()
    raw = dumps(Calls(named("a.Layer"))) if state is None else dumps({"x": persistent("Layer", state)})
    del module
    found = content(tmp_path, raw)
    with pytest.raises(ValueError, match=r"module|tensor"):
        tensors_of(found["x"] if isinstance(found, dict) else found)
    for other in (None, 3, {}, TENSORS, torch.ones(2)):
        with pytest.raises(ValueError, match="no module"):
            tensors_of(other)


def test_what_is_no_checkpoint_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text.pt").write_text("This is no checkpoint.\n" * 100)
    (tmp_path / "noise.pkl").write_bytes(np.random.default_rng(0).bytes(5000))
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("a.py", "")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "other.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "text.pt", "noise.pkl"):
        refused(tmp_path / name, "expected a torch file, a pickle .* a safetensors file, or a folder")
    for name in ("arrays.npz", "code.zip"):
        refused(tmp_path / name, "no <name>/data.pkl")
    refused(tmp_path / "folder", r"expected model_index\.json, config\.json or specs\.json")
    for name in ("missing", "pipe"):
        refused(tmp_path / name, "give the path of a checkpoint")
    (tmp_path / "folder" / "config.json").write_text("{")
    refused(tmp_path / "folder", "no JSON")
    (tmp_path / "folder" / "config.json").write_text("[" * 100_000)
    refused(tmp_path / "folder", "no JSON")
    (tmp_path / "folder" / "config.json").write_text("{}")
    save(tmp_path / "a.pt", TENSORS)
    monkeypatch.setattr(checkpoint, "JSON", 3)
    refused(tmp_path / "folder", "more than 3 bytes of JSON")
    monkeypatch.setattr(checkpoint, "LIMIT", 3)
    refused(tmp_path / "a.pt", "at most 3 bytes")
    refused(tmp_path / "folder", "at most 3 bytes")


def test_big_endian_files_are_refused(tmp_path: Path) -> None:
    def turn(name: str, data: bytes) -> bytes:
        return b"big" if name.endswith("byteorder") else data

    (tmp_path / "a").write_bytes(rezipped(torch_bytes(TENSORS, False), turn))
    refused(tmp_path / "a", "big-endian")


def test_what_a_file_says_reaches_a_terminal_as_text(tmp_path: Path) -> None:
    name = b"\x1b[31m red \x07"
    (tmp_path / "a").write_bytes(
        b"\x80\x04\x8c\x01a\x8c" + bytes([len(name)]) + name + b"\x93}" + name[:0] + b"K\x01a."
    )
    refused(tmp_path / "a")
    assert json.dumps(read_checkpoint(dump(tmp_path / "b", {"\x1b[31m": 1})).card["keys"]) == '[" [31m"]'


FORMATS: dict[str, Callable[[Path], Any]] = {
    "nvlabs": lambda path: dump(path, {"G_ema": record("Generator", TENSORS, {"z_dim": 4}, BUFFERS), "x": ARRAYS}),
    "plain 2": lambda path: dump(path, {"G_ema": plain("a.Generator", TENSORS, BUFFERS), "x": ARRAYS}, 2),
    "plain 5": lambda path: dump(path, {"G_ema": plain("a.Generator", TENSORS, BUFFERS), "x": ARRAYS}, 5),
    "torch": lambda path: save(path, {"a": TENSORS, "b": instance("a.Config", depth=3), "c": {named("a.B"): {1, 2}}}),
    "legacy": lambda path: save(path, {"a": TENSORS, "b": instance("a.Config", depth=3)}, legacy=True),
    "safetensors": lambda path: save_file(TENSORS, path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    """Cut anywhere: always refused. Bytes changed: refused, or read as something else, and nothing in between."""
    FORMATS[name](tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(0)
    for end in rng.integers(0, len(whole) - 1, 40):
        (tmp_path / "cut").write_bytes(whole[:end])
        refused(tmp_path / "cut")
    wrong = 0
    for _ in range(150):
        raw = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(0, len(raw), rng.integers(1, 5))
        raw[at] = rng.integers(0, 256, len(at))
        (tmp_path / "changed").write_bytes(raw)
        try:
            found = read_checkpoint(tmp_path / "changed")
            json.dumps(found.card)
            if isinstance(found.content, dict) and "G_ema" in found.content:
                tensors_of(found.content["G_ema"])
        except ValueError:
            wrong += 1
    assert wrong
