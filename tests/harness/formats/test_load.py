"""From a file to a generator: the one family that knows it opens it, and it is parsed once."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import assay
from assay.generators.networks.stylegan2_networks import StyleGAN2Network
from assay.harness.core import registry
from assay.harness.core.protocols import Generator
from assay.harness.formats import checkpoint, weights
from assay.harness.formats.checkpoint import read_checkpoint
from assay.harness.formats.handed_on import opening
from assay.harness.formats.pickles import Inert

from ...nvlabs import dump, instance, record, save
from .checkpoints import TENSORS


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
