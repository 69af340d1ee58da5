"""What is in a checkpoint is found, whichever program wrote it."""

import hashlib
import io
import itertools
import json
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.harness.formats.checkpoint import read_checkpoint, tensors_of
from assay.harness.formats.pickles import Inert

from ...nvlabs import SOURCE, dump, dumps, instance, named, plain, record, save
from .checkpoints import ARRAYS, BUFFERS, TENSORS, Calls, content, equal


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


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
