"""Tensors in torch files, in each of the places where people put them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.datasets.array import array
from assay.generators.replay import replay
from assay.harness.formats.arrays import read_arrays

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 6, 5), dtype=np.uint8))


def test_every_place_gives_the_same(tmp_path: Path) -> None:
    torch.save(IMAGES, tmp_path / "plain.pt")
    torch.save(IMAGES, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"images": IMAGES, "epoch": 3}, tmp_path / "named.pth")
    torch.save(list(IMAGES), tmp_path / "list.pt")
    torch.save((IMAGES, torch.zeros(20, dtype=torch.int64)), tmp_path / "pair.pt")
    torch.save(IMAGES.permute(0, 2, 3, 1), tmp_path / "strided.bin")
    torch.save((IMAGES / 255).requires_grad_(), tmp_path / "float.pt")
    save_file({"images": IMAGES}, tmp_path / "a.safetensors")
    plain = replay("any", str(tmp_path / "plain.pt")).fingerprint
    for path in sorted(tmp_path.iterdir()):
        assert replay("any", str(path)).fingerprint == plain, path
    assert list(array(str(tmp_path / "pair.pt")).classes) == ["0"]


def test_sixteen_bits_of_bfloat_are_read(tmp_path: Path) -> None:
    torch.save((IMAGES > 127).to(torch.bfloat16), tmp_path / "a.pt")
    found = read_arrays(tmp_path / "a.pt", "images")["images"]
    assert np.array_equal(found, (IMAGES > 127).numpy())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "has no tensor at its top; save the images alone"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 5, 5), torch.zeros(3, 4, 4)], "list of tensors of different shapes"),
        ({"pictures": IMAGES}, "has no array `images` .*; it has pictures"),
        (torch.nn.Linear(2, 2), "has no tensor at its top"),
    ],
)
def test_what_has_no_images_is_told(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message):
        replay("any", str(tmp_path / "a.pt"))
