"""Paths of least energy where the answer is known: flat spaces, spheres, cross-fades; distances by their formula."""

import itertools
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from assay.metrics.paths.distances import Embedding, at_most, equalise
from assay.metrics.paths.energy import (
    energy,
    energy_and_gradient,
    equalised,
    feature_distance,
    lerp,
    nlerp,
    optimise_path,
    path_energy,
    pixel_distance,
    refine_path,
    slerp,
    step_lengths,
    subdivide,
    vgg_distance,
)
from assay.metrics.paths.shape import (
    brightness,
    contrast,
    jensen_gap,
    max_end_distance,
    path_ppl,
    speed_variation,
    straightness,
    turning,
)


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def itself(x: Tensor) -> Tensor:
    return x


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def sphere(*shape: int, radius: float, seed: int = 0) -> Tensor:
    codes = gauss(*shape, seed=seed)
    return codes * radius / codes.flatten(1).norm(dim=1).view(-1, *[1] * (codes.ndim - 1))


WIDE = gauss(3, 48, seed=5)
DEEP = gauss(48, 20, seed=6) / 7


def bent(z: Tensor) -> Tensor:
    """A smooth generator [N, 3] -> [N, 3, 4, 4] whose images lie on a curved surface."""
    return (0.5 + 0.4 * torch.sin(z @ WIDE)).view(-1, 3, 4, 4)


def bent_layers(images: Tensor) -> Mapping[str, Tensor]:
    first = torch.tanh(images.flatten(1) @ DEEP)
    return {"first": first.view(-1, 5, 2, 2), "second": first.square()}


# Closed forms


@pytest.mark.parametrize("power", [1, 2])
def test_in_a_flat_space_the_path_is_the_straight_line_at_constant_speed(power: int) -> None:
    rotation = torch.linalg.qr(gauss(6, 6)).Q
    start, end = gauss(4, 6, seed=1), gauss(4, 6, seed=2)
    found = optimise_path(
        lambda z: (z @ rotation).view(-1, 1, 2, 3), start, end, flat, power=power, levels=3, iterations=300,
        middle=(start + end) / 2 + 0.3 * gauss(4, 6, seed=3),
    )  # fmt: skip
    squared = (end - start).square().sum(1)
    assert (found.energy[:, 0] > 1.05 * squared**power).all(), "the detour costs something at first"
    torch.testing.assert_close(found.energy[:, -1], squared**power, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.path, lerp(start, end, 8), rtol=0, atol=5e-3)
    assert (jensen_gap(step_lengths(found.path)) - 1).abs().max() < 1e-4
    assert found.gradient.max() < 0.1 * squared.max() ** power


def test_on_a_sphere_the_path_is_slerp_with_the_energy_of_equal_chords() -> None:
    radius, n = 2.0, 8
    start, end = sphere(5, 4, radius=radius, seed=1), sphere(5, 4, radius=radius, seed=2)
    found = optimise_path(
        itself, start, end, itself, levels=3, iterations=300, radius=radius,
        middle=(start + end) / 2 + 0.2 * gauss(5, 4, seed=3),
    )  # fmt: skip
    theta = torch.arccos((start * end).sum(1) / radius**2)
    least = 4 * n**2 * radius**2 * (theta / (2 * n)).sin().square()
    torch.testing.assert_close(found.energy[:, -1], least, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.path, slerp(start, end, n), rtol=0, atol=0.02)
    torch.testing.assert_close(found.path.norm(dim=2), torch.full((5, n + 1), radius, dtype=torch.float64))
    exact = path_energy(slerp(start, end, n), itself)
    torch.testing.assert_close(exact, least)
    assert (least < (radius * theta).square()).all(), "chords are shorter than the arc"


def test_subdivision_leaves_the_flat_case_and_slerp_alone() -> None:
    start, end = gauss(3, 5, seed=1), gauss(3, 5, seed=2)
    squared = (end - start).square().sum(1)
    path = torch.stack([start, end], 1)
    for _ in range(4):
        path = subdivide(path)
        torch.testing.assert_close(path_energy(path, itself), squared)
        torch.testing.assert_close(path_energy(path, itself, power=2), squared.square())
    torch.testing.assert_close(path, lerp(start, end, 16))
    found = optimise_path(itself, start, end, itself)
    assert (found.energy[:, -1] / squared - 1).max() < 1e-3, "what Adam's start at every level leaves"
    torch.testing.assert_close(found.path, lerp(start, end, 32), rtol=0, atol=5e-3)
    start, end = sphere(3, 5, radius=3.0, seed=1), sphere(3, 5, radius=3.0, seed=2)
    path = torch.stack([start, end], 1)
    for _ in range(3):
        path = subdivide(path, 3.0)
    torch.testing.assert_close(path, slerp(start, end, 8))


@pytest.mark.parametrize("power", [1, 2])
def test_energy_with_its_factor_converges_as_a_curve_is_cut_finer(power: int) -> None:
    def helix(n: int) -> Tensor:
        t = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        return torch.stack([(3 * t).cos(), (3 * t).sin(), t.square()], 1)[None]

    # speed^2 = 9 + 4 t^2, so the integrals of its first and second power over [0, 1] are 31/3 and 81 + 24 + 16/5
    limit = {1: 31 / 3, 2: 81 + 24 + 16 / 5}[power]
    errors = [abs(float(path_energy(helix(n), itself, power)) - limit) for n in (8, 16, 32, 64)]
    for coarse, fine in itertools.pairwise(errors):
        assert fine == pytest.approx(coarse / 4, rel=0.05), "the error falls with the square of the step"


def test_length_collapses_where_energy_does_not() -> None:
    """Minimising length bunches the vertices at the ends (section 1 of the paper): a single segment is shortest."""

    def bowl(z: Tensor) -> Tensor:
        return torch.cat([z, 2 * z.square().sum(1, keepdim=True)], 1)

    start, end = torch.tensor([[-1.0, 0.1]]).double(), torch.tensor([[1.0, 0.0]]).double()
    free = lerp(start, end, 8)[:, 1:-1].clone().requires_grad_()
    adam = torch.optim.Adam([free], lr=0.01)
    gaps = []
    for _ in range(1000):
        path = torch.cat([start[:, None], free, end[:, None]], 1)
        lengths = step_lengths(bowl(path.flatten(0, 1)).unflatten(0, path.shape[:2]))
        gaps.append(float(jensen_gap(lengths.detach())))
        adam.zero_grad()
        lengths.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert gaps[0] < 2
    assert gaps[-1] > 6, "nearly 8, the number of segments: one step is all of the path"
    assert float((lengths.max() / lengths.sum()).detach()) > 0.85
    found = optimise_path(bowl, start, end, itself, levels=3, iterations=200)
    evenly = step_lengths(bowl(found.path.flatten(0, 1)).unflatten(0, found.path.shape[:2]))
    assert float(jensen_gap(evenly)) < 1.01


def test_in_a_convex_set_of_images_the_best_path_in_pixels_is_the_cross_fade() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    images[0, :, :, :2], images[1, :, :2] = 1, 1  # uncorrelated patterns: the middle has 1/sqrt(2) of their contrast
    found = optimise_path(
        lambda z: z.view(-1, 1, 4, 4), images[:1], images[1:], pixel_distance(), levels=2, iterations=400,
        middle=images.mean(0, keepdim=True) + 0.1 * gauss(1, 1, 4, 4),
    )  # fmt: skip
    torch.testing.assert_close(found.path, lerp(images[:1], images[1:], 4), rtol=0, atol=0.01)
    torch.testing.assert_close(found.energy[:, -1], (images[0] - images[1]).square().mean()[None], rtol=1e-3, atol=0)
    assert float(contrast(found.path)[0, 2]) == pytest.approx(math.sqrt(0.5), abs=0.01)


def test_every_optimised_path_has_the_least_energy_in_its_own_distance() -> None:
    start, end = 0.5 * gauss(6, 3, seed=1), 0.5 * gauss(6, 3, seed=2)
    features = feature_distance(bent_layers)
    distances = {
        "pixel": pixel_distance(), "feature": features,
        "~pixel": equalised(pixel_distance()), "~feature": equalised(features),
    }  # fmt: skip
    paths = {"linear": lerp(start, end, 4)}
    for name, distance in distances.items():
        paths[name] = optimise_path(bent, start, end, distance, levels=2, iterations=200).path
    images = {name: bent(path.flatten(0, 1)).unflatten(0, path.shape[:2]) for name, path in paths.items()}
    for name, distance in distances.items():
        energies = {row: path_energy(frames, distance) for row, frames in images.items()}
        others = torch.stack([value for row, value in energies.items() if row != name])
        assert (energies[name] < others.amin(0)).all(), name


# Going on from a path


def two_valleys(z: Tensor) -> Tensor:
    """A surface [N, 2] -> [N, 3] with a hill a little above the straight way: below it is near, but twice as wide."""
    x, y = z.unbind(1)
    hill = 3 * torch.exp(-(x.square() + (y - 0.1).square()) / 0.08)
    return torch.stack([x, torch.where(y < 0, 2 * y, y), hill], 1)


def test_from_the_path_of_a_rival_the_better_of_two_valleys_is_found() -> None:
    start, end = torch.tensor([[-1.0, 0.0]]).double(), torch.tensor([[1.0, 0.0]]).double()
    first = optimise_path(two_valleys, start, end, itself, levels=3, iterations=200)
    assert first.path[:, 4, 1] < 0, "the first vertex slides down the near side of the hill"
    t = torch.linspace(0, 1, 9).double()
    above = torch.stack([2 * t - 1, 0.9 * (math.pi * t).sin()], 1)[None]
    assert path_energy(two_valleys(above[0])[None], itself) > 1.2 * first.energy[:, -1], "the rival is no better itself"
    own = refine_path(two_valleys, first.path, itself, iterations=300, lr=0.01)
    torch.testing.assert_close(own.energy[:, -1], first.energy[:, -1], rtol=1e-3, atol=0)
    other = refine_path(two_valleys, above, itself, iterations=300, lr=0.01)
    assert (other.path[:, 1:-1, 1] > 0).all()
    assert other.energy[:, -1] < 0.9 * own.energy[:, -1]
    assert other.gradient < 1e-3 * other.energy[:, -1]
    detour = optimise_path(two_valleys, start, end, itself, levels=3, iterations=200, middle=above[:, 4])
    torch.testing.assert_close(other.energy[:, -1], detour.energy[:, -1], rtol=1e-3, atol=0)


@pytest.mark.parametrize("radius", [None, 1.5])
@pytest.mark.parametrize("lr", [0.003, 1.0])
def test_no_path_is_worse_than_what_it_went_on_from(lr: float, radius: float | None) -> None:
    distance = equalised(feature_distance(bent_layers))
    start, end = sphere(6, 3, radius=1.5, seed=1), sphere(6, 3, radius=1.5, seed=2)
    path = optimise_path(bent, start, end, distance, levels=3, iterations=20, radius=radius).path
    before = path.clone()
    found = refine_path(bent, path, distance, iterations=30, lr=lr, radius=radius, chunk=9)
    assert torch.equal(path, before)
    energies = [
        path_energy(bent(each.flatten(0, 1)).unflatten(0, each.shape[:2]), distance) for each in (path, found.path)
    ]
    torch.testing.assert_close(found.energy[:, 0], energies[0])
    torch.testing.assert_close(found.energy[:, -1], energies[1])
    assert found.energy.shape == (6, 31)
    assert (found.energy.diff(dim=1) <= 0).all()
    assert torch.equal(found.path[:, [0, -1]], path[:, [0, -1]])
    stayed = (found.path == path).flatten(1).all(1)
    assert torch.equal(stayed, found.energy[:, -1] == found.energy[:, 0])
    assert stayed.any() == (lr == 1), "steps as large as the path throw some pairs off for good"
    if radius is not None:
        torch.testing.assert_close(found.path.norm(dim=2), torch.full((6, 9), radius, dtype=torch.float64))
    embedded = distance(bent(found.path[:, [0, -1]].flatten(0, 1))).view(6, 2, -1)
    _, gradient = energy_and_gradient(lambda z: distance(bent(z)), found.path[:, 1:-1], embedded, radius=radius)
    torch.testing.assert_close(found.gradient, gradient.flatten(1).norm(dim=1))
    assert found.calls == 6 * (2 + 31 * 7)


def test_straight_lines_of_a_flat_generator_stay_and_bent_ones_become_straight() -> None:
    start, end = gauss(3, 5, seed=1), gauss(3, 5, seed=2)
    line, squared = lerp(start, end, 4), (end - start).square().sum(1)
    still = refine_path(itself, line, itself, iterations=20)
    torch.testing.assert_close(still.path, line, rtol=0, atol=1e-8)
    torch.testing.assert_close(still.energy[:, -1], squared)
    bow = line + 0.05 * torch.tensor([0.0, 1.0, -1.0, 1.0, 0.0]).double()[:, None]
    found = refine_path(itself, bow, itself, iterations=300)
    assert (found.energy[:, 0] > 1.01 * squared).all()
    torch.testing.assert_close(found.energy[:, -1], squared, rtol=1e-4, atol=0)


# Gradient, chunks, pairs


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("distance", [pixel_distance(2), equalised(feature_distance(bent_layers))])
def test_the_gradient_agrees_with_finite_differences(power: int, distance: Embedding) -> None:
    free, ends = gauss(2, 3, 3, seed=1), gauss(2, 2, 3, seed=2)

    def of(codes: Tensor) -> Tensor:
        path = torch.cat([ends[:, :1], codes, ends[:, 1:]], 1)
        return path_energy(bent(path.flatten(0, 1)).unflatten(0, path.shape[:2]), distance, power)

    def embed(z: Tensor) -> Tensor:
        return distance(bent(z))

    value, gradient = energy_and_gradient(embed, free, embed(ends.flatten(0, 1)).view(2, 2, -1), power)
    torch.testing.assert_close(value, of(free))
    step = 1e-6
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3)).tolist():
        shift = torch.zeros_like(free)
        shift[tuple(index)] = step
        slope = (of(free + shift).sum() - of(free - shift).sum()) / (2 * step)
        assert float(gradient[tuple(index)]) == pytest.approx(float(slope), rel=1e-5, abs=1e-7 * float(value.max()))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 20])
def test_chunks_change_nothing_but_the_number_of_calls(chunk: int, power: int) -> None:
    distance = feature_distance(bent_layers)
    start, end = gauss(3, 3, seed=1), gauss(3, 3, seed=2)

    def find(chunk: int) -> tuple[Tensor, Tensor, Tensor, int]:
        return optimise_path(bent, start, end, distance, power=power, levels=3, iterations=4, chunk=chunk)

    whole, parts = find(10_000), find(chunk)
    for one, other in zip(whole[:3], parts[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    once = 3 * (2 + 4 * (1 + 3 + 7) + 7)
    assert whole[3] == once, "two ends; every vertex once an iteration; every vertex at the end"
    extra = 3 * sum(times * (-(-m // chunk) - 1) for m, times in ((1, 4), (3, 4), (7, 5)))
    assert parts[3] == once + extra, "and one neighbour between two chunks of a path"


@pytest.mark.parametrize("radius", [None, 1.5])
def test_the_result_is_that_of_one_pair_at_a_time_with_both_images_of_every_segment(radius: float | None) -> None:
    distance = equalised(feature_distance(bent_layers))
    start, end = sphere(3, 3, radius=1.5, seed=1), sphere(3, 3, radius=1.5, seed=2)
    together = optimise_path(bent, start, end, distance, levels=3, iterations=15, radius=radius, chunk=6)
    for i in range(3):
        path = torch.stack([start[i], end[i]])
        for _ in range(3):
            path = subdivide(path[None], radius)[0]
            free = path[1:-1].clone().requires_grad_()
            adam = torch.optim.Adam([free], lr=0.01)
            for _ in range(15):
                whole = torch.cat([path[:1], free, path[-1:]])
                steps = [
                    distance(bent(whole[j : j + 1])) - distance(bent(whole[j + 1 : j + 2]))
                    for j in range(len(whole) - 1)
                ]
                value = len(steps) * sum(step.square().sum() for step in steps)
                (gradient,) = torch.autograd.grad(value, free)
                if radius is not None:
                    normal = free.detach() / radius
                    gradient = gradient - (gradient * normal).sum(1, keepdim=True) * normal
                free.grad = gradient
                adam.step()
                if radius is not None:
                    free.data *= radius / free.detach().norm(dim=1, keepdim=True)
            path = torch.cat([path[:1], free.detach(), path[-1:]])
        torch.testing.assert_close(together.path[i], path, rtol=1e-8, atol=1e-10)


def test_no_more_images_than_a_chunk_are_made_at_once() -> None:
    sizes: list[int] = []

    def watched(z: Tensor) -> Tensor:
        sizes.append(len(z))
        return bent(z)

    optimise_path(watched, gauss(5, 3), gauss(5, 3, seed=1), pixel_distance(), levels=3, iterations=2, chunk=4)
    assert max(sizes) == 4


def test_pairs_do_not_see_each_other() -> None:
    start, end = gauss(3, 3, seed=1), gauss(3, 3, seed=2)
    together = optimise_path(bent, start, end, pixel_distance(), levels=2, iterations=20)
    for i in range(3):
        alone = optimise_path(bent, start[i : i + 1], end[i : i + 1], pixel_distance(), levels=2, iterations=20)
        torch.testing.assert_close(alone.path[0], together.path[i], rtol=1e-9, atol=1e-12)


def test_latents_of_any_shape() -> None:
    start, end = sphere(2, 3, 2, radius=1.5, seed=1), sphere(2, 3, 2, radius=1.5, seed=2)
    found = optimise_path(itself, start, end, flat, levels=2, iterations=5, radius=1.5, chunk=2)
    assert found.path.shape == (2, 5, 3, 2)
    torch.testing.assert_close(found.path.flatten(2).norm(dim=2), torch.full((2, 5), 1.5, dtype=torch.float64))
    assert torch.equal(found.path[:, 0], start)
    assert torch.equal(found.path[:, -1], end)


def test_float32_latents_stay_float32_and_are_left_alone() -> None:
    start, end = gauss(2, 3).float(), gauss(2, 3, seed=1).float()
    before = start.clone()
    with torch.no_grad():
        found = optimise_path(lambda z: bent(z.double()).float(), start, end, pixel_distance(), levels=2, iterations=2)
    assert found.path.dtype == found.energy.dtype == torch.float32
    assert torch.equal(start, before)
    assert not found.path.requires_grad


# Distances


def test_the_pixel_distance_is_the_mean_squared_error_at_the_smaller_size() -> None:
    x, y = gauss(2, 3, 3, 8, 8).unbind(0)
    squared = (pixel_distance()(x) - pixel_distance()(y)).square().sum(1)
    torch.testing.assert_close(squared, (x - y).square().mean((1, 2, 3)))
    small = [image.view(3, 3, 2, 4, 2, 4).mean((3, 5)) for image in (x, y)]
    squared = (pixel_distance(2)(x) - pixel_distance(2)(y)).square().sum(1)
    torch.testing.assert_close(squared, (small[0] - small[1]).square().mean((1, 2, 3)))
    assert at_most(torch.zeros(1, 1, 6, 12), 4).shape[2:] == (2, 4)
    assert at_most(torch.zeros(1, 1, 3, 4), 4).shape[2:] == (3, 4)


def test_the_feature_distance_weighs_every_layer_by_its_size() -> None:
    x, y = gauss(2, 4, 3, 4, 4).unbind(0)
    a, b = bent_layers(x), bent_layers(y)
    expected = (a["first"] - b["first"]).square().sum((1, 2, 3)) / 20 + (a["second"] - b["second"]).square().sum(1) / 20
    distance = feature_distance(bent_layers)
    torch.testing.assert_close((distance(x) - distance(y)).square().sum(1), expected)
    one = feature_distance(bent_layers, ["second"])
    torch.testing.assert_close((one(x) - one(y)).square().sum(1), (a["second"] - b["second"]).square().sum(1) / 20)
    with pytest.raises(ValueError, match="no layer third; it has first, second"):
        feature_distance(bent_layers, ["first", "third"])(x)


def test_the_papers_distance_sees_five_layers_at_256_pixels() -> None:
    seen: list[tuple[int, ...]] = []
    widths = {"conv1_1": 7, "conv1_2": 2, "conv2_2": 3, "conv3_2": 4, "conv4_2": 5, "conv5_2": 6}

    def layers(images: Tensor) -> Mapping[str, Tensor]:
        seen.append(tuple(images.shape))
        return {name: images[:, :1, :width, :1].expand(-1, width, -1, -1) * width for name, width in widths.items()}

    x, y = torch.rand(2, 1, 3, 512, 512, generator=torch.Generator().manual_seed(0)).unbind(0)
    squared = (vgg_distance(layers)(x) - vgg_distance(layers)(y)).square().sum(1)
    assert seen == [(1, 3, 256, 256)] * 2
    a, b = (layers(image.view(1, 3, 256, 2, 256, 2).mean((3, 5))) for image in (x, y))
    expected = sum((a[name] - b[name]).square().mean() for name in widths if name != "conv1_1")
    torch.testing.assert_close(squared, torch.as_tensor(expected)[None])


def test_equalised_distances_do_not_see_brightness_and_contrast() -> None:
    x, y = 0.5 + 0.2 * gauss(2, 3, 3, 8, 8).unbind(0)[0], 0.5 + 0.2 * gauss(3, 3, 8, 8, seed=1)
    for distance in (equalised(pixel_distance()), equalised(feature_distance(bent_layers_of(8)))):
        before = (distance(x) - distance(y)).square().sum(1)
        after = (distance(0.7 * x - 0.2) - distance(1.6 * y + 0.1)).square().sum(1)
        torch.testing.assert_close(after, before, rtol=2e-4, atol=0)
    cast = torch.tensor([0.5, 1.0, 1.5]).double().view(3, 1, 1)
    whole, channels = equalised(pixel_distance()), equalised(pixel_distance(), per_channel=True)
    assert (whole(x * cast) - whole(x)).norm(dim=1).min() > 0.1, "a cast of colour counts"
    torch.testing.assert_close(channels(x * cast), channels(x), rtol=2e-4, atol=2e-6)
    points = equalised(pixel_distance())(x) * math.sqrt(3 * 64)
    torch.testing.assert_close(points.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(points.std(1, correction=0), torch.ones(3).double(), rtol=1e-4, atol=0)


def bent_layers_of(size: int) -> Callable[[Tensor], Mapping[str, Tensor]]:
    weights = gauss(3 * size**2, 10, seed=7) / size

    def layers(images: Tensor) -> Mapping[str, Tensor]:
        return {"only": torch.tanh(images.flatten(1) @ weights)}

    return layers


def test_the_network_gets_equalised_images_in_its_usual_range() -> None:
    seen: list[Tensor] = []

    def layers(images: Tensor) -> Mapping[str, Tensor]:
        seen.append(images)
        return {"all": images}

    equalised(feature_distance(layers))(7 * gauss(1, 3, 8, 8) + 3)
    assert float(seen[0].mean()) == pytest.approx(0.45)
    assert float(seen[0].std(correction=0)) == pytest.approx(0.23, rel=1e-6)


def test_equalisation_has_the_gradient_of_its_mean_and_deviation_too() -> None:
    images = gauss(2, 3, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: equalise(x, "image", 0.0, 1.0), images)
    assert torch.autograd.gradcheck(lambda x: equalise(x, "channel", 0.5, 0.2), images)
    constant = torch.full((1, 1, 4, 4), 0.3, requires_grad=True)
    equalise(constant, "image", 0.0, 1.0).square().sum().backward()  # type: ignore[no-untyped-call]
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


# What a path looks like


def test_shapes_of_an_arc() -> None:
    angle = torch.linspace(0, math.pi / 2, 9, dtype=torch.float64)
    arc = torch.stack([angle.cos(), angle.sin()], 1)
    step = math.pi / 16
    assert float(straightness(arc)) == pytest.approx(math.sqrt(2) / (16 * math.sin(step / 2)))
    assert float(turning(arc)) == pytest.approx(7 * step)
    assert float(max_end_distance(arc)) == pytest.approx(2 * math.sin(math.pi / 8) / math.sqrt(2))
    assert float(jensen_gap(step_lengths(arc))) == pytest.approx(1)
    line = torch.tensor([0.0, 1.0, 4.0, 5.0]).double()[:, None]
    lengths = step_lengths(line)
    assert float(jensen_gap(lengths)) == pytest.approx(3 * 11 / 25)
    assert float(jensen_gap(lengths)) == pytest.approx(1 + float(speed_variation(lengths)) ** 2)
    assert (float(straightness(line)), float(turning(line))) == (1, 0)
    assert float(max_end_distance(line)) == pytest.approx(1 / 5)
    assert energy(lengths).item() == 3 * 11
    assert energy(lengths, 2).item() == 27 * 83


def test_contrast_and_brightness_are_told_against_the_ends() -> None:
    pattern = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    frames = torch.stack([pattern, 0.2 + 0.4 * pattern, 1 - pattern])[:, None]
    assert contrast(frames).tolist() == pytest.approx([1, 0.4, 1])
    assert brightness(frames).tolist() == pytest.approx([0, -0.1, 0])
    green = torch.zeros(3, 3, 2, 2).double()
    green[:, 1] = pattern
    assert brightness(green * torch.tensor([1, 0, 1])[:, None, None, None]).tolist() == pytest.approx([0, -0.2935, 0])


def test_path_ppl_of_a_linear_generator_is_its_squared_speed() -> None:
    matrix = gauss(4, 9, seed=3)
    path = lerp(gauss(3, 4, seed=1), gauss(3, 4, seed=2), 8)
    speed = (path[:, -1] - path[:, 0]) @ matrix
    torch.testing.assert_close(path_ppl(lambda z: z @ matrix, path, itself), speed.square().sum(1))
    start, end = sphere(2, 4, radius=2.0, seed=1), sphere(2, 4, radius=2.0, seed=2)
    arc = slerp(start, end, 64)
    theta = torch.arccos((start * end).sum(1) / 4)
    torch.testing.assert_close(path_ppl(itself, arc, itself, radius=2.0), (2 * theta).square(), rtol=1e-3, atol=0)


# Curves


def test_slerp_turns_evenly_and_nlerp_does_not() -> None:
    start, end = sphere(4, 6, radius=3.0, seed=1), sphere(4, 6, radius=3.0, seed=2)
    round_path, projected = slerp(start, end, 16), nlerp(start, end, 16, 3.0)
    for path in (round_path, projected):
        torch.testing.assert_close(path.norm(dim=2), torch.full((4, 17), 3.0, dtype=torch.float64))
        assert torch.equal(path[:, 0], start)
        assert torch.equal(path[:, -1], end)
    torch.testing.assert_close(round_path[:, 8], projected[:, 8])
    assert speed_variation(step_lengths(round_path)).max() < 1e-12
    assert speed_variation(step_lengths(projected)).min() > 1e-3
    torch.testing.assert_close(slerp(start, 2 * start, 4), lerp(start, 2 * start, 4))


def test_ends_without_a_way_between_them_are_refused() -> None:
    start = sphere(3, 4, radius=2.0)
    end = sphere(3, 4, radius=2.0, seed=1)
    antipodal = torch.cat([end[:1], -start[1:2], end[2:]])
    for refuse in (
        lambda: slerp(start, antipodal, 4),
        lambda: nlerp(start, antipodal, 4, 2.0),
        lambda: optimise_path(itself, start, antipodal, itself, radius=2.0),
    ):
        with pytest.raises(ValueError, match=r"1 of 3 pairs are invalid: pair 1 has antipodal ends"):
            refuse()
    with pytest.raises(ValueError, match="pair 0 has an end of length 0"):
        slerp(start * torch.tensor([0, 1, 1]).view(3, 1), end, 4)
    with pytest.raises(ValueError, match="pair 2 has an end that is not on the sphere of radius 2"):
        nlerp(start, end * torch.tensor([1, 1, 1.1]).view(3, 1), 4, 2.0)


def test_bad_input_is_refused() -> None:
    start, end = gauss(3, 4), gauss(3, 4, seed=1)
    with pytest.raises(ValueError, match=r"start has shape \[3, 4\], end \[2, 4\]"):
        optimise_path(itself, start, end[:2], itself)
    with pytest.raises(ValueError, match="pair 1 has an end that is not finite"):
        optimise_path(itself, start, torch.where(torch.arange(3)[:, None] == 1, math.nan, end), itself)
    with pytest.raises(ValueError, match="levels=0"):
        optimise_path(itself, start, end, itself, levels=0)
    with pytest.raises(ValueError, match="power is 3"):
        optimise_path(itself, start, end, itself, power=3)
    with pytest.raises(ValueError, match="at least one vertex between"):
        refine_path(itself, torch.stack([start, end], 1), itself)
    with pytest.raises(ValueError, match="iterations=0"):
        refine_path(itself, lerp(start, end, 2), itself, iterations=0)
    with pytest.raises(ValueError, match="pair 0 has an end that is not on the sphere of radius 9"):
        refine_path(itself, lerp(start, end, 2), itself, radius=9)
    with pytest.raises(ValueError, match="3 of 3 pairs are invalid: pair 0 has an energy that is not finite"):
        refine_path(lambda z: z / 0 * 0, lerp(start, end, 2), itself)
    with pytest.raises(ValueError, match="pair 0 has an energy that is not finite"):
        optimise_path(lambda z: z / 0 * 0, start, end, itself, levels=1, iterations=1)
    with pytest.raises(ValueError, match="give floating"):
        pixel_distance()(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at least 2 vertices"):
        path_energy(start[:, None], itself)
