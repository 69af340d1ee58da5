"""Checkpoints of other people: what is in them is found, and nothing that they contain runs."""

import hashlib
import io
import itertools
import json
import os
import pickle
import re
import struct
import sys
import time
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import assay
from assay.generators.networks.stylegan2_networks import StyleGAN2Network
from assay.harness.core import registry
from assay.harness.core.protocols import Generator
from assay.harness.formats import checkpoint, pickles, weights
from assay.harness.formats.checkpoint import read_checkpoint, tensors_of
from assay.harness.formats.handed_on import opening
from assay.harness.formats.pickles import Inert

from ...nvlabs import SOURCE, dump, dumps, importable, instance, named, persistent, plain, record, save

TENSORS = {
    "mapping.w_avg": torch.arange(4.0),
    "mapping.fc0.weight": torch.arange(16.0).reshape(4, 4),
    "synthesis.b4.resample_filter": torch.ones(2, 2) / 4,
    "synthesis.b4.conv1.weight": torch.arange(54.0).reshape(2, 3, 3, 3),
}
BUFFERS = {"w_avg", "resample_filter"}


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in expected.items()
    )


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def refused(path: Path, match: str | None = None) -> None:
    """The one line that says why, with the path in it."""
    with pytest.raises(ValueError, match=match) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()


def content(tmp_path: Path, raw: bytes) -> Any:
    (tmp_path / "raw").write_bytes(raw)
    return read_checkpoint(tmp_path / "raw").content


# What is in a file is found.


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_record_of_nvlabs_gives_its_tensors_and_arguments(tmp_path: Path, protocol: int) -> None:
    network = record("Generator", TENSORS, {"z_dim": 4, "mapping_kwargs": {"num_layers": 2}}, BUFFERS)
    found = read_checkpoint(dump(tmp_path / "a.pkl", {"G": None, "G_ema": network}, protocol))
    module = found.content["G_ema"]
    assert module.name == "Generator"
    assert module.state["_init_kwargs"] == {"z_dim": 4, "mapping_kwargs": {"num_layers": 2}}
    assert equal(tensors_of(module), TENSORS)
    assert found.sha256 == hashlib.sha256((tmp_path / "a.pkl").read_bytes()).hexdigest()
    assert found.card == {
        "format": "pickle",
        "bytes": (tmp_path / "a.pkl").stat().st_size,
        "keys": ["G", "G_ema"],
        "names": {},
        "sources": {hashlib.sha256(SOURCE.encode()).hexdigest(): ["Generator", "Layer"]},
    }
    assert SOURCE not in json.dumps(found.card)


def test_a_pickle_of_modules_by_class_name(tmp_path: Path) -> None:
    network = plain("pg_modules.networks_fastgan.Generator", TENSORS, BUFFERS, img_resolution=16)
    found = read_checkpoint(dump(tmp_path / "a.pkl", {"G_ema": network}))
    assert found.content["G_ema"].name == "pg_modules.networks_fastgan.Generator"
    assert found.content["G_ema"].state["img_resolution"] == 16
    assert equal(tensors_of(found.content["G_ema"]), TENSORS)
    assert found.card["names"] == {"blocks.Layer": 1, "pg_modules.networks_fastgan.Generator": 1}


def test_a_network_of_tensorflow_gives_its_variables_and_the_sha256_of_its_source(tmp_path: Path) -> None:
    variables = [("4x4/Const/const", np.ones((1, 2, 4, 4), np.float32)), ("lod", np.float32(0))]
    state = {"name": "Gs", "version": 4, "variables": variables, "build_module_src": SOURCE}
    networks = tuple(instance("dnnlib.tflib.network.Network", **state) for _ in range(3))
    found = read_checkpoint(dump(tmp_path / "a.pkl", networks, 2))
    sha256 = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert [network.name for network in found.content] == 3 * ["dnnlib.tflib.network.Network"]
    assert found.content[2].state["build_module_src"] == sha256
    (first, array), (second, scalar) = found.content[2].state["variables"]
    assert (first, second, scalar) == ("4x4/Const/const", "lod", 0)
    np.testing.assert_array_equal(array, variables[0][1])
    assert found.card["sources"] == {sha256: ["Gs"]}


def test_modules_of_torch_itself_old_and_new(tmp_path: Path) -> None:
    """Whole modules, as old examples save them: with hooks, an absent bias, a buffer that is not kept, tied weights."""
    tied = nn.Linear(3, 3, bias=False)
    network = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), tied, tied)
    network.register_buffer("passing", torch.ones(2), persistent=False)
    network.register_module("absent", None)
    expected = network.state_dict()
    assert "passing" not in expected
    for legacy in (False, True):
        torch.save(network, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
        assert equal(tensors_of(read_checkpoint(tmp_path / "a.pt").content), expected)
    sources = read_checkpoint(tmp_path / "a.pt").card["sources"]  # the old format keeps the text of every class
    assert ["torch.nn.modules.linear.Linear"] in sources.values()
    for part in ("_non_persistent_buffers_set", "_is_full_backward_hook"):  # modules of torch 1.0 have neither
        for module in network.modules():
            del module.__dict__[part]
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(network, 2))
    assert equal(tensors_of(read_checkpoint(tmp_path / "old.pkl").content), {"passing": torch.ones(2)} | expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_give_what_torch_load_gives(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(12.0)
    tensors: dict[str, Tensor] = {
        "plain": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
        "view": base[2:5],
        "other view": base.view(3, 4)[:, 1],
        "expanded": torch.ones(1).expand(10),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.0),
        "parameter": nn.Parameter(torch.ones(2)),
        **{
            str(dtype): torch.tensor([0, 1, 3]).to(dtype)
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16)
            + (torch.int32, torch.int64, torch.bool, torch.complex64)
            + (() if legacy else (torch.uint16, torch.float8_e4m3fn))  # torch cannot read its own old files of these
        },
    }
    state = OrderedDict(tensors)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    saved = {"state_dict": state, "epoch": 5, "dtype": torch.float16, "size": torch.Size([1, 2]), "rest": [(1,), {2.5}]}
    torch.save(saved, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(tmp_path / "a.pt")
    expected = torch.load(tmp_path / "a.pt", weights_only=True)
    for name, tensor in expected.pop("state_dict").items():
        mine = found.content["state_dict"][name]
        assert mine.dtype == tensor.dtype
        assert (mine.shape, mine.stride()) == (tensor.shape, tensor.stride())
        assert torch.equal(bits(mine), bits(tensor.detach()))
        assert not mine.requires_grad
    views = [found.content["state_dict"][name].untyped_storage().data_ptr() for name in ("view", "other view")]
    assert views[0] == views[1]
    assert found.content["state_dict"]._metadata == state._metadata  # type: ignore[attr-defined]
    assert {key: value for key, value in found.content.items() if key != "state_dict"} == expected
    assert found.card["format"] == ("legacy torch" if legacy else "torch")


CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"


@pytest.mark.parametrize("legacy", [False, True])
def test_keys_that_are_classes_and_numpy_scalars(tmp_path: Path, legacy: bool) -> None:
    """What Lightning before 1.5 writes."""
    lightning = {"callbacks": {named(CALLBACK): {"best": np.float32(0.5)}}, "state_dict": TENSORS}
    path = save(tmp_path / "a.ckpt", lightning, legacy)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_checkpoint(path)
    ((key, value),) = found.content["callbacks"].items()
    assert issubclass(key, Inert)
    assert key.name == CALLBACK
    assert value == {"best": 0.5}
    assert type(value["best"]) is float
    assert equal(found.content["state_dict"], TENSORS)
    assert found.card["names"] == {CALLBACK: 1}


ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3)),
    "bool": np.array([True, False]),
    "point": np.array(2.5),
    "half": np.ones(3, np.float16),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_arrays_of_numpy_before_and_after_version_2(tmp_path: Path, protocol: int, core: str) -> None:
    raw = pickle.dumps({**ARRAYS, "scalar": np.int64(3)}, protocol)
    for module in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        new = module.replace(b"numpy._core", core.encode())
        if protocol == 2:
            raw = raw.replace(b"c" + module + b"\n", b"c" + new + b"\n")
        else:  # frames tell lengths that are now wrong; nothing needs them
            raw = raw.replace(b"\x8c" + bytes([len(module)]) + module, b"\x8c" + bytes([len(new)]) + new)
    assert (b"numpy._core" in raw) == (core == "numpy._core")
    found = content(tmp_path, raw)
    assert found.pop("scalar") == 3
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)
        assert torch.as_tensor(found[name]).shape == array.shape


def test_storages_of_a_machine_with_cuda(tmp_path: Path) -> None:
    """The tag of the device is in the nested bytes of a plain pickle, and in torch files."""
    buffer = io.BytesIO()
    torch.save(TENSORS["mapping.fc0.weight"]._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    tagged = buffer.getvalue().replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert b"cuda:0" in tagged
    storage = Calls(torch.storage._load_from_bytes, tagged)
    tensor = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (4, 4), (4, 1), False, OrderedDict())
    raw = pickle.dumps({"a": tensor})
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            pickle.loads(raw)
    assert torch.equal(content(tmp_path, raw)["a"], TENSORS["mapping.fc0.weight"])


def test_what_dill_writes(tmp_path: Path) -> None:
    """dill names its own functions for types and arrays, and may make classes when it is read."""
    load_type = Calls(named("dill._dill._load_type"), "set")
    create = Calls(named("dill._dill._create_type"), Calls(named("dill._dill._load_type"), "type"), "Local", (), {})
    array = Calls(
        named("dill._dill._create_array"),
        np._core.multiarray._reconstruct,
        (np.ndarray, (0,), b"b"),
        (1, (2,), np.dtype("<f4"), False, np.float32([1, 2]).tobytes()),
        None,
    )
    found = content(tmp_path, dumps({"set": Calls(load_type, [1, 2]), "made": Calls(create), "array": array}, 2))
    assert found["set"] == {1, 2}
    assert found["made"].name == "dill._dill._create_type()"
    assert found["array"].tolist() == [1, 2]


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.scale, self.sizes, self.label = nn.Parameter(torch.ones(2).half()), [1, 2], "x"

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def test_torchscript_is_read_without_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Scripted().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save(tmp_path / "a.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    found = read_checkpoint(tmp_path / "a.pt")
    assert found.card["format"] == "torchscript"
    assert found.content.keys() == module.state_dict().keys()
    assert all(torch.equal(found.content[name], tensor) for name, tensor in module.state_dict().items())


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", {"format": "pt"})
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert found.card["format"] == "safetensors"
    assert "family" not in found.card
    assert found.content.keys() == TENSORS.keys()
    assert all(torch.equal(found.content[name], tensor) for name, tensor in TENSORS.items())


def test_the_format_is_in_the_content_not_in_the_name(tmp_path: Path) -> None:
    writers: dict[str, Callable[[Path], Any]] = {
        "pickle": lambda path: dump(path, TENSORS),
        "torch": lambda path: save(path, TENSORS),
        "legacy torch": lambda path: save(path, TENSORS, legacy=True),
        "safetensors": lambda path: save_file(TENSORS, path),
    }
    for (name, write), suffix in itertools.product(writers.items(), (".pkl", ".pt", ".safetensors", "")):
        path = tmp_path / f"model{suffix}"
        write(path)
        assert read_checkpoint(path).card["format"] == name


def test_a_folder_is_its_json_and_the_sha256_of_all_its_files(tmp_path: Path) -> None:
    def write(folder: Path, names: Sequence[str]) -> Path:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps({"name": name}))
        return folder

    names = ["model_index.json", "unet/config.json", "unet/weights.bin"]
    found = read_checkpoint(write(tmp_path / "a", names))
    assert found.content == {name: {"name": name} for name in names[:2]}
    assert found.card["format"] == "folder"
    assert found.card["bytes"] == sum((tmp_path / "a" / name).stat().st_size for name in names)
    again = write(tmp_path / "b", [*reversed(names), ".cache/x.json", ".hidden"])
    assert read_checkpoint(again) == found
    (again / "unet/weights.bin").write_text("other")
    assert read_checkpoint(again).sha256 != found.sha256
    (again / "unet/weights.bin").rename(again / "unet/other.bin")
    (again / "unet/other.bin").write_text(json.dumps({"name": names[2]}))
    assert read_checkpoint(again).sha256 != found.sha256
    for name in ("config.json", "specs.json"):
        assert read_checkpoint(write(tmp_path / name, [name])).content == {name: {"name": name}}


# Nothing in a file runs.


class Calls:
    """Pickles as a call of `function`, which may be one of these too."""

    def __init__(self, function: Any, *args: Any):
        self.function, self.args = function, args

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


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


def loads(raw: bytes) -> Any:
    with importable():
        return pickle.loads(raw)


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


# A small file cannot ask for much.

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


# What is no checkpoint, or is damaged.


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


# From a file to a generator.


@pytest.fixture
def _families(own_registries: None) -> None:
    """No generators but two that open files, and one that opens none."""
    registry.GENERATORS.clear()

    def has(key: str) -> Callable[[Any], bool]:
        return lambda content: isinstance(content, dict) and key in content

    @registry.generator(recognise=has("left"))
    def left(dataset: str, path: str = "", strength: float = 1.0) -> Any:
        return "left", dataset, path, strength

    @registry.generator(recognise=has("right"))
    def right(dataset: str, path: str = "") -> Any:
        return "right", dataset, path

    @registry.generator
    def neither(dataset: str) -> Any:
        raise AssertionError


@pytest.mark.usefixtures("_families")
def test_load_opens_a_file_with_the_one_family_that_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "discover", lambda: None)
    left, right = dump(tmp_path / "left", {"left": 1}), save(tmp_path / "right", {"right": 1})
    assert assay.load(left, strength=0.5) == ("left", "", str(left), 0.5)
    assert assay.load(str(right)) == ("right", "", str(right))
    both = dump(tmp_path / "both", {"left": 1, "right": 2})
    with pytest.raises(ValueError, match=r"left and right; choose with generator=left generator\.left\.path="):
        assay.load(both)
    other = dump(tmp_path / "other", {f"key {i}": i for i in range(10)})
    with pytest.raises(
        ValueError, match=r"no generator opens .*other \(pickle with key 0, .* and 2 more\).*: left, right"
    ):
        assay.load(other)
    with pytest.raises(ValueError, match=r"a module\.Name"):
        assay.load(dump(tmp_path / "inert", instance("a module.Name", x=1)))
    save_file(TENSORS, tmp_path / "own", {"assay": json.dumps({"family": "right"})})
    assert assay.load(tmp_path / "own") == ("right", "", str(tmp_path / "own"))
    save_file(TENSORS, tmp_path / "own", {"assay": json.dumps({"family": "centre"})})
    with pytest.raises(KeyError, match="centre"):
        assay.load(tmp_path / "own")


def test_load_opens_files_of_our_own() -> None:
    zoo = Path(assay.__file__).parent / "generators" / "zoo"
    vae = assay.load(zoo / "vae-digits.safetensors")
    assert vae.decode(vae.latents([0], "z"), "z").shape == (1, 1, 8, 8)


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """The first argument of every call of a function from now on."""
    calls, function = [], getattr(module, name)

    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments[0])
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, called)
    return calls


def test_load_parses_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.discover()
    layers = {"z_dim": 4, "c_dim": 0, "w_dim": 4, "img_resolution": 4, "img_channels": 3, "mapping_kwargs": {}}
    shape = {"base": 16, "max_channels": 4}
    network = StyleGAN2Network(4, 0, 4, 4, 3, **shape)
    told = layers | {"synthesis_kwargs": {"channel_base": 16, "channel_max": 4}}
    averaged = record("Generator", network.state_dict(), told, ("w_avg", "noise_const", "resample_filter"))
    path = dump(tmp_path / "net.pkl", {"G_ema": averaged})
    parsed = counted(monkeypatch, checkpoint, "_pickle")
    generator = assay.load(path)
    assert isinstance(generator, Generator)
    assert len(parsed) == 1
    read_checkpoint(path)
    assert len(parsed) == 2, "nothing is kept after use"


def test_load_parses_a_file_of_our_own_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.discover()
    path = Path(assay.__file__).parent / "generators" / "zoo" / "vae-digits.safetensors"
    parsed = counted(monkeypatch, weights, "safe_open")
    found = assay.load(path)
    assert len(parsed) == 1
    assert found.fingerprint == registry.GENERATORS["vae"].function("digits").fingerprint
    assert len(parsed) == 2


def test_what_was_read_is_handed_on_once_and_only_of_an_unchanged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = dump(tmp_path / "a", {"x": 1}), dump(tmp_path / "b", {"x": 2})
    parsed = counted(monkeypatch, checkpoint, "_pickle")
    with opening(path):
        first = read_checkpoint(path)
        assert read_checkpoint(str(path)) is first
        assert len(parsed) == 1
        assert read_checkpoint(path) is not first
        assert len(parsed) == 2
        dump(path, {"x": 3, "y": 4})
        assert read_checkpoint(path).content == {"x": 3, "y": 4}
        assert read_checkpoint(other).content == read_checkpoint(other).content == {"x": 2}
        assert len(parsed) == 5
        with pytest.raises(ValueError, match="no file or folder"):
            read_checkpoint(tmp_path / "absent")
    assert read_checkpoint(path).content == {"x": 3, "y": 4}
    assert len(parsed) == 6


def odd_contents() -> list[Any]:
    record = type("Inert", (Inert,), {"name": "a.Network"})
    filled = record()
    filled.state = {"components": 3, "_modules": {}, "_parameters": {}, "_buffers": {}}
    hollow = [None, 3, "text", [], (), {}, torch.ones(2), record, record(), filled]
    keys = ["G_ema", "state_dict", "avgG", "netG", "model_index.json", "config.json", "specs.json", "Gs"]
    return [
        *hollow,
        *({key: value} for key, value in itertools.product(keys, hollow)),
        *((value, value, value) for value in hollow),
        {3: 4},
        TENSORS,
    ]


def test_every_family_says_of_any_file_whether_it_is_its_own() -> None:
    """One that raises would keep all others from their files."""
    registry.discover()
    for name, entry in registry.GENERATORS.items():
        for odd in odd_contents() if entry.recognise else ():
            assert entry.recognise(odd) is False, f"{name} takes {odd!r} for its own"
