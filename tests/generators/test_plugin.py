"""The generator that CONTRIBUTING shows, used as it stands there, in a folder outside of the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import assay
from assay import checkpoints
from assay.harness.core.protocols import Generator

from ..nvlabs import dump, record

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
(PLUGIN,) = re.findall(r"is `my_generator\.py`:\n\n```python\n(.*?)```", TEXT, re.DOTALL)
(COMMAND,) = re.findall(r"^    assay --plugin (my_generator\.py run .*)$", TEXT, re.MULTILINE)
KNOWN = {"width": 16, "classes": 10}


@pytest.fixture
def folder(tmp_path: Path, own_registries: None) -> Path:
    """The plugin, declared, and a file of its family."""
    (tmp_path / "my_generator.py").write_text(PLUGIN)
    names: dict[str, Any] = {"__name__": "my_generator", "__file__": str(tmp_path / "my_generator.py")}
    exec(compile(PLUGIN, tmp_path / "my_generator.py", "exec"), names)
    torch.manual_seed(0)
    write(tmp_path, names["Decoder"](**KNOWN).state_dict())
    return tmp_path


def write(folder: Path, weights: dict[str, torch.Tensor], **told: Any) -> Path:
    torch.save({"toy": KNOWN | told, "weights": weights}, folder / "toy.pt")
    return folder / "toy.pt"


def test_the_plugin_is_short() -> None:
    assert len(PLUGIN.splitlines()) <= 50


def test_a_file_is_recognised_and_a_sample_depends_on_its_seed_alone(folder: Path) -> None:
    toy = assay.load(folder / "toy.pt")
    assert isinstance(toy, Generator)
    weights = torch.load(folder / "toy.pt", weights_only=True)["weights"]
    codes = toy.latents([3, 13, 2**40], "w")
    for row, seed in zip(codes, (3, 13, 2**40), strict=True):
        expected = checkpoints.normal([seed], 16)[0] + weights["codes.weight"][seed % 10]
        assert torch.equal(row, expected)
        assert torch.equal(toy.latents([seed], "w")[0], row)
    images = codes @ weights["layers.0.weight"].T + weights["layers.0.bias"]
    torch.testing.assert_close(toy.decode(codes, "w"), (images.tanh().view(3, 1, 8, 8) + 1) / 2)
    chosen = assay.load(folder / "toy.pt", label=4)
    torch.testing.assert_close(chosen.latents([7], "w")[0], checkpoints.normal([7], 16)[0] + weights["codes.weight"][4])
    assert chosen.fingerprint != toy.fingerprint
    with pytest.raises(ValueError, match=r"label=10 must be a class 0..9"):
        assay.load(folder / "toy.pt", label=10).latents([0], "w")


def test_what_it_does_not_understand_is_refused_by_name(folder: Path) -> None:
    weights = torch.load(folder / "toy.pt", weights_only=True)["weights"]
    with pytest.raises(ValueError, match=r"toy\.pt describes no network .*unexpected keyword argument 'depth'"):
        assay.load(write(folder, weights, depth=2))
    with pytest.raises(ValueError, match=r"toy\.pt holds another network: .* such as codes\.weight \(\[10, 16\], exp"):
        assay.load(write(folder, weights, width=20_000))
    with pytest.raises(ValueError, match="classes=-3 must be a whole number"):
        assay.load(write(folder, weights, classes=-3))


def test_the_command_below_it_works(folder: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ASSAY_")}
    program = Path(sys.executable).with_name("assay")
    done = subprocess.run(
        [program, "--plugin", *COMMAND.split()], cwd=folder, text=True, capture_output=True, timeout=300,
        env=kept | {"ASSAY_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "toy" in (folder / "outputs/run/tables/metrics.csv").read_text()


def test_arguments_of_records(tmp_path: Path) -> None:
    network = record("Generator", {"a": torch.ones(2)}, {"z_dim": 4})
    found = checkpoints.read_checkpoint(dump(tmp_path / "a.pkl", {"G_ema": network})).content["G_ema"]
    assert checkpoints.arguments_of(found) == {"z_dim": 4}
    assert checkpoints.arguments_of(checkpoints.Inert((), {"depth": 3})) == {"depth": 3}
    for odd in (None, {}, checkpoints.Inert((1,), {}), checkpoints.Inert):
        with pytest.raises(ValueError, match=r"no record|no names"):
            checkpoints.arguments_of(odd)


def test_labels() -> None:
    assert checkpoints.labels([0, 7, 13], 10).tolist() == [0, 7, 3]
    assert checkpoints.labels([0, 7, 13], 10, 4).tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="label=0 must be null: this model has no classes"):
        checkpoints.labels([0], 0, 0)
