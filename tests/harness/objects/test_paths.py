"""What opens a path: stored samples, real ones, checkpoints; by their content and not by what they are called."""

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import assay
from assay.harness.core.registry import discover
from assay.harness.formats.weights import ZOO
from assay.harness.objects.paths import dataset_of, generator_of

from .conftest import FAKES, Pair, as_folder

evaluate = partial(assay.evaluate, "frechet_distance", features="pixels")


@pytest.fixture(autouse=True)
def discovered() -> None:
    discover()


def zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"inner/{path.name}")
    return archive


def test_what_opens_samples(tmp_path: Path) -> None:
    folder = as_folder(np.zeros((1, 4, 4, 3), np.uint8), tmp_path / "images")
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "a.off").write_text("OFF\n")
    np.save(tmp_path / "a.npy", np.zeros(3))
    for path, data, generator in (
        (folder, ("folder", "root"), "replay"),
        (zipped(folder), ("folder", "root"), "replay"),
        (tmp_path / "meshes", ("mesh_folder", "root"), "replay"),
        (tmp_path / "a.npy", ("array", "path"), "replay"),
    ):
        assert (dataset_of(path), generator_of(path)) == (data, generator)


def test_an_archive_gives_the_number_of_its_folder(pair: Pair, tmp_path: Path) -> None:
    fake, real = (as_folder(images, tmp_path / name) for name, images in zip(Pair._fields, pair, strict=True))
    assert evaluate(zipped(fake), zipped(real)).values == evaluate(fake, real).values == evaluate(*pair).values


def test_a_checkpoint_is_a_generator_and_keeps_its_name(tmp_path: Path) -> None:
    file = ZOO["generator"] / "vae-digits.safetensors"
    found = assay.evaluate("precision", file, "digits", n=30)
    assert found.values == assay.evaluate("precision", "vae", "digits", n=30).values
    assert found.cell.generator.startswith("vae(path=vae-digits.safetensors#")
    warm = assay.evaluate("precision", (file, {"temperature": 0.7}), "digits", n=30)
    assert warm.values == assay.evaluate("precision", "vae(temperature=0.7)", "digits", n=30).values


def test_paths_may_begin_at_home_and_options_stand_beside_them(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    as_folder(pair.fake, tmp_path / "fake")
    grey = [Image.fromarray(image).convert("L") for image in (*pair.fake, *pair.real)]
    as_grey = evaluate(("~/fake", {"mode": "L"}), grey[FAKES:])
    assert as_grey.values == evaluate(grey[:FAKES], grey[FAKES:]).values


@pytest.mark.parametrize("name", ["notes.txt", "empty.pt"])
def test_a_file_that_nothing_opens_is_named(name: str, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / name).write_text("hello")
    for call in (partial(evaluate, tmp_path / name, pair.real), partial(evaluate, pair.fake, tmp_path / name)):
        with pytest.raises(ValueError, match=name) as caught:
            call()
        assert "\n" not in str(caught.value)
