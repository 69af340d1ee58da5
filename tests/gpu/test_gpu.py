"""Code for a GPU without one: everything on a device that is pretended, and the check at a tiny size.

Tests marked `gpu` are the rest of what `make gpu` runs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.harness.core.registry import METRICS, discover

from . import check, metrics, networks, speed
from .pretend import GPU, Pretending
from .table import Part, Row, machine, write

discover()
FRECHET = {"fid", "frechet_distance", "frechet_floor", "frechet_infinity", "shading_distance"}
FRECHET |= {"memorisation_informed_frechet", "mifid"}
OURS = sorted(name for name, m in METRICS.items() if m.function.__module__.startswith("assay.metrics."))
GENERATORS = {
    **{f"{family} on {data}": partial(networks._of_zoo, family, data) for family, data in networks.zoo("generator")},
    **networks.SMALL,
}
QUICK = (
    "adm", "deepsdf", "first_stage kl8", "latent_diffusion on digits", "progan", "sdf_stylegan",
    "sdf_vae on sdf_primitives", "stylegan2 on digits", "stylegan3", "vae on digits", "classifier on digits",
    "judge on digits", "pixels on fashion_mnist", "points on sdf_primitives", "random on fashion_mnist",
    "signals on sdf_primitives",
)  # fmt: skip
"""Networks that every run of the tests tries; `make gpu` tries the others too."""


def each(names: list[str]) -> pytest.MarkDecorator:
    marked = [pytest.param(name, marks=() if name in QUICK else pytest.mark.gpu) for name in names]
    return pytest.mark.parametrize("name", marked)


# The pretended device


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: x + y,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: y[(x > 0).to(x.device)],
        lambda x, y: x.numpy(),
        lambda x, y: torch.nn.Linear(3, 2)(x),
        lambda x, y: x.__setitem__(x > 0, y),
        lambda x, y: torch.rand(3, generator=torch.Generator(), device=x.device),
        lambda x, y: torch.arange(3) * x,
    ],
)
def test_what_cuda_refuses_is_refused(wrong: Callable[[Tensor, Tensor], Any]) -> None:
    with Pretending(), pytest.raises(RuntimeError, match=r"cuda:0"):
        wrong(torch.ones(3).to(GPU), torch.ones(3))


def test_what_cuda_allows_is_allowed_and_told_from_the_cpu() -> None:
    network = torch.nn.Linear(3, 2)
    with Pretending() as pretended:
        x = torch.ones(3).to("cuda")
        assert x.device == GPU
        assert x.is_cuda
        for there in (x * 2, x[torch.tensor([0])], x + torch.tensor(1.0), torch.zeros_like(x), network.to(GPU)(x)):
            assert there.device == GPU
        assert torch.zeros(2, device=x.device).device == GPU
        assert not x.cpu().is_cuda
        assert x.cpu().numpy().sum() == 3
        z = x.clone().requires_grad_()
        assert torch.autograd.grad((z * z).sum(), z)[0].device == GPU
        assert not pretended.waits
        assert float(x.sum()) == 3
        assert len(x[x > 0]) == 3
        assert pretended.waits.total() == 2
    assert not network.weight.is_cuda


# All of it on the pretended device


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.gpu) if name in metrics.LEARNED else name for name in OURS]
)
@pytest.mark.usefixtures("brief_training")
def test_metrics_stay_on_the_device_of_their_samples(name: str) -> None:
    """Their numbers are those of the CPU, since the pretended device computes as it does.

    But for Fréchet distances, whose covariances the CPU sums by BLAS and a GPU by torch, and which subtract traces.
    """
    m = METRICS[name]
    given = [metrics.sample(view, 88, 4, seed) for seed, view in enumerate(m.views.values(), start=1)]
    with Pretending():
        found = metrics.values(m, [x.to(GPU) for x in given])
        if m.kind == "sample":
            assert m.function(*(x.to(GPU) for x in given)).device == GPU
    rtol, atol = (1e-6, 1e-8) if name in FRECHET else (1e-12, 1e-12)
    for one, other in zip(found, metrics.values(m, given), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=rtol, atol=atol, equal_nan=True)


@each(list(GENERATORS))
def test_generators_decode_on_the_device_of_their_latents(name: str, tmp_path: Path) -> None:
    made = opened(lambda: GENERATORS[name](tmp_path))
    space = made.spaces[0]
    latents = made.latents(range(2), space)
    same_on_both(lambda z: made.decode(z, space), latents, getattr(made, "to", None))


@each([f"{family} on {data}" for family, data, _ in networks.spaces(Path())])
def test_feature_spaces_extract_on_the_device_of_their_images(name: str, tmp_path: Path) -> None:
    make = next(make for family, data, make in networks.spaces(tmp_path) if f"{family} on {data}" == name)
    same_on_both(opened(make), networks.images_like(name.partition(" on ")[2], 2))


@torch.no_grad()
def same_on_both(function: Callable[[Tensor], Tensor], given: Tensor, move: Callable[[Any], Any] | None = None) -> None:
    right = function(given)
    with Pretending():
        if move is not None:
            move(GPU)
        found = function(given.to(GPU))
        assert found.device == GPU
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def opened(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ImportError, LookupError, FileNotFoundError) as absent:
        pytest.skip(f"not at hand: {absent}")


def test_stylegan2_is_trained_on_the_device() -> None:
    losses, weights = networks._trained(torch.device("cpu"), 8, 1)
    with Pretending():
        found, others = networks._trained(GPU, 8, 1)
    assert found == pytest.approx(losses, rel=1e-4)
    assert networks._other_way(others, weights) < 1e-3


def test_the_host_does_not_wait_while_a_path_is_optimised() -> None:
    """Each step is made of what is on the device; only its ends are checked."""
    counts = []
    for iterations in (1, 4):
        with Pretending() as pretended:
            speed._paths(GPU, 1, 2, iterations)
        counts.append(pretended.waits.total())
    assert counts[0] == counts[1]


# The check itself


def test_the_check_runs_without_a_gpu_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {name: task._replace(small=[min(size, 100) for size in task.small]) for name, task in speed.TASKS.items()}
    monkeypatch.setattr(speed, "TASKS", tiny)
    monkeypatch.setattr(speed, "PRODUCT", {"cpu": 64, "cuda": 8192})
    chosen = {"precision", "latent_density", "vae on digits, zoo", "pixels, images like fashion_mnist"}
    sizes = check.Sizes(40, 4, (80, 4), 2, 4, 1, 0.01)
    assert check.check(None, sizes, tmp_path, chosen.__contains__) == []
    page = (tmp_path / "gpu.md").read_text()
    assert "The GPU columns are empty because there was no CUDA device." in page
    assert all(f"## {title}\n" in page for title, _ in check.ABOUT.values())
    rows = [line.split(",") for line in (tmp_path / "gpu.csv").read_text().splitlines()[1:]]
    assert {row[0] for row in rows} == set(check.ABOUT)
    assert chosen <= {row[1] for row in rows} | {row[1].strip('"') + "," + row[2].strip('"') for row in rows}


def test_a_number_beyond_its_bound_is_told(tmp_path: Path) -> None:
    rows = [Row("a", "", 0.0, gpu=2.0, bound=1.0), Row("b", "", 1.0, gpu=0.9, bound=0.99, least=True)]
    kept = [Row("c", "", 0.0, gpu=1.0, bound=1.0), Row("d", "", 0.0, bound=0.0), Row("e", "", 1.0, gpu=5.0)]
    assert [row.broken for row in (*rows, *kept)] == [True, True, False, False, False]
    assert Row("f", "", 0.0, gpu=float("nan"), bound=1.0).broken
    page = write(tmp_path, {"x": Part("X", "", [*rows, *kept])}, None).read_text()
    assert "| b |  | 1 | 0.9 | at least 0.99 |" in page
    assert "none" in machine(None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA; without it `make gpu` measures the CPU")
def test_the_gpu_is_within_all_bounds(tmp_path: Path) -> None:
    assert check.check(torch.device("cuda"), check.SMALL, tmp_path) == []
