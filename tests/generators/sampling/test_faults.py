"""Faults of images: each changes what it says and nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.sampling.faults import (
    CONTENT,
    HOLE,
    PART,
    SIGNAL,
    doubled_part,
    hole,
    melted,
    missing_part,
    mixed_classes,
    swapped_texture,
)

SIDE = 30


def square(colours: tuple[float, ...] = (0.9, 0.5, 0.7), ground: float = 0.2) -> Tensor:
    """A square of 12 on a ground, its rows of slightly different colours, so that no two of its rows are the same."""
    image = torch.full((3, SIDE, SIDE), ground)
    image[:, 9:21, 9:21] = torch.tensor(colours)[:, None, None] - torch.linspace(0, 0.1, 12)[:, None]
    return image


def stripes(rng: np.random.Generator) -> Tensor:
    image = torch.zeros(3, SIDE, SIDE)
    image[0, 5:25:2, 5:25], image[1, 6:25:2, 5:25] = 1, 1
    return image


def made(name: str, seed: int, image: Tensor | None = None) -> Tensor:
    return CONTENT[name](square() if image is None else image, np.random.default_rng(seed), stripes)


@pytest.mark.parametrize("name", CONTENT)
def test_every_fault_changes_the_object_and_its_details_depend_on_the_generator(name: str) -> None:
    found = [made(name, seed) for seed in range(8)]
    assert all((each - square()).abs().amax() > 0.05 for each in found)
    assert torch.equal(found[0], made(name, 0))
    assert len({each.numpy().tobytes() for each in found}) > (1 if name != "swapped texture" else 0)
    before = square()
    CONTENT[name](before, np.random.default_rng(0), stripes)
    assert torch.equal(before, square())


@pytest.mark.parametrize("name", [*CONTENT, *SIGNAL])
def test_images_of_one_channel_and_of_other_sizes(name: str) -> None:
    image = torch.zeros(1, 20, 26)
    image[:, 5:15, 8:20] = 0.8
    other = torch.zeros(1, 20, 26)
    other[:, 2:9, 2:24] = 0.4
    found = {**CONTENT, **SIGNAL}[name](image, np.random.default_rng(1), lambda rng: other)
    assert found.shape == image.shape
    assert bool(found.isfinite().all())


def test_a_missing_part_is_its_share_of_the_object() -> None:
    """Of a square whose weight is nearly even; a row of 12 pixels is 8 % of it, which may be beyond the line or not."""
    weight = (square() - 0.2).abs().mean(0)
    for seed in range(20):
        gone = (missing_part(square(), np.random.default_rng(seed), stripes) - square()).abs().amax(0) > 0
        assert PART <= float(weight[gone].sum() / weight.sum()) < PART + 0.09
        assert (missing_part(square(), np.random.default_rng(seed), stripes)[:, gone] == 0.2).all()


def test_a_doubled_part_leaves_the_object_and_adds_to_it() -> None:
    for seed in range(20):
        found = doubled_part(square(), np.random.default_rng(seed), stripes)
        changed = (found - square()).abs().amax(0) > 1e-6
        outside = changed.clone()
        outside[9:21, 9:21] = False
        assert outside.sum() > 10
        known = {tuple(colour) for colour in square().flatten(1).T.tolist()}
        assert {tuple(colour) for colour in found.flatten(1).T.tolist()} <= known


def test_a_swapped_texture_keeps_the_outline() -> None:
    found = swapped_texture(square(), np.random.default_rng(0), stripes)
    assert {tuple(colour) for colour in found[:, 9:21, 9:21].flatten(1).T.tolist()} == {(1, 0, 0), (0, 1, 0)}
    outside = torch.ones(SIDE, SIDE, dtype=torch.bool)
    outside[9:21, 9:21] = False
    assert torch.equal(found[:, outside], square()[:, outside])


def test_a_hole_is_a_disc_of_ground_in_the_object() -> None:
    for seed in range(20):
        found = hole(square(), np.random.default_rng(seed), stripes)
        gone = (found - square()).abs().amax(0) > 0
        rows = gone.nonzero()[:, 0]
        assert 4 <= int(gone.sum()) <= np.pi * (HOLE * SIDE + 1) ** 2
        assert (rows.max() - rows.min()) <= 2 * HOLE * SIDE
        assert (found[:, gone] == 0.2).all()


def test_what_melts_has_the_colours_of_the_image_and_the_stated_displacement() -> None:
    """An image whose colour is its place tells the displacement; the border, where it is clamped, is left out."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    place = torch.stack([rows / 60, columns / 60])
    moved = []
    for seed in range(30):
        change = (melted(place, np.random.default_rng(seed), stripes) - place)[:, 15:45, 15:45] * 60
        moved.append(float(change.square().sum(0).mean()))
    # Knots in the middle move a little more or less than all: 30 fields of 36 knots give the mean square within 15 %.
    assert np.sqrt(np.mean(moved)) == pytest.approx(60 / 9, rel=0.15)


def test_classes_are_mixed_along_a_line_through_the_middle_of_the_object() -> None:
    for seed in range(20):
        found = mixed_classes(square(), np.random.default_rng(seed), stripes)
        own, other = ((found == each).all(0) for each in (square(), stripes(np.random.default_rng(0))))
        assert bool((own | other).all())
        assert 0.4 < float(own[9:21, 9:21].float().mean()) < 0.6


def test_an_image_of_one_colour_is_refused() -> None:
    for name in set(CONTENT) - {"swapped texture"}:
        with pytest.raises(ValueError, match="an image is of one colour"):
            made(name, 0, torch.full((3, SIDE, SIDE), 0.4))
