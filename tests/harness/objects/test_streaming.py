"""Metrics of samples that come batch by batch: the same as of the whole, in bounded memory, without traces."""

import copy
import gc
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay
from assay import Estimate
from assay.harness.core.registry import METRICS, discover
from assay.metrics.frechet import fid, frechet_distance
from assay.metrics.neighbours import precision, recall

discover()
ROOT = Path(__file__).parents[3]


def gauss(n: int, d: int = 6, seed: int = 0, offset: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + offset


def fed(metric: assay.Metric, batch: int = 37, **sets: Tensor) -> assay.Metric:
    for name, rows in sets.items():
        for part in rows.split(batch):
            metric.update(**{name: part})
    return metric


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, NaN beside NaN."""
    return repr(one) == repr(other)


# The same as the whole


@pytest.mark.parametrize("seed", range(6))
def test_moments_of_any_batches_orders_and_merges_are_those_of_the_whole(seed: int) -> None:
    """Nearly all rows are forgotten, so that the value comes from moments alone; features share a large offset."""
    rng = np.random.default_rng(seed)
    fake, real = gauss(700, 8, 1).double() + 100, 1.3 * gauss(900, 8, 2).double() + 100.2
    parts = [assay.Metric("frechet_distance", features=None, reservoir=2) for _ in range(rng.integers(1, 5))]
    for name, rows in (("fake", fake), ("real", real)):
        cuts = np.sort(rng.choice(np.arange(1, len(rows)), rng.integers(1, 40), replace=False)).tolist()
        for batch in torch.tensor_split(rows[torch.from_numpy(rng.permutation(len(rows)))], cuts):
            parts[rng.integers(len(parts))].update(**{name: batch})
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    assert whole.compute().value == pytest.approx(frechet_distance(fake, real).value, rel=1e-9)  # type: ignore[union-attr]
    assert whole.samples["frechet_distance"]["real"] == {
        "found": 900, "used": 900, "used for the interval": 2, "seed": 0,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:cmmd")
def test_within_the_reservoir_every_set_metric_is_that_of_the_whole() -> None:
    """Bit for bit, interval included."""
    generator = torch.Generator().manual_seed(0)
    seen = 0
    for name, declared in METRICS.items():
        if declared.kind != "set" or name in ("reconstruction_error", "amortised_volume_fit"):
            continue
        shape = {"image": (6,), "any": (2048 if declared.fixed_features else 6,), "shape": (20, 3)}[declared.modality]
        sets = {key: torch.rand(60, *shape, generator=generator) for key in declared.views}
        whole = declared.function(**sets)
        found = fed(assay.Metric(name, features=None), 17, **sets).compute()
        assert same(found, whole if isinstance(whole, Estimate) else dict(whole)), name
        seen += 1
    assert seen > 20


def test_two_gaussians_have_the_closed_form() -> None:
    """Sets whose sample moments are exactly N(0, I) and N(3, 4 I): 9 + (2 - 1)^2 in each of 4 dimensions."""
    rows = gauss(500, 4).double()
    rows = rows - rows.mean(0)
    rows = rows @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(rows.T))).T
    metric = fed(assay.Metric("frechet_distance", features=None, reservoir=10), fake=rows, real=2 * rows + 3)
    assert metric.compute().value == pytest.approx(40, rel=1e-12)  # type: ignore[union-attr]


def test_several_metrics_share_one_extraction() -> None:
    calls: list[int] = []

    def features(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images.flatten(1)

    specs = ["frechet_distance", "precision", {"metric": "precision", "k": 3}]
    metric = assay.Metric(specs, features=features)
    real, fake = torch.rand(50, 3, 4, 4), torch.rand(40, 3, 4, 4)
    fed(metric, 10, real=real, fake=fake)
    assert calls == [10] * 9
    found = metric.compute()
    y, x = fake.flatten(1), real.flatten(1)
    assert found == {
        "frechet_distance": frechet_distance(y, x), "precision": precision(y, x), "precision(k=3)": precision(y, x, k=3)
    }  # fmt: skip


def test_names_of_extractors_and_8_bit_images() -> None:
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one = fed(assay.Metric("frechet_distance", features="pixels"), fake=images[:20], real=images[20:])
    other = fed(assay.Metric("frechet_distance", features="pixels"), fake=images[:20] / 255, real=images[20:] / 255)
    assert same(one.compute(), other.compute())
    assert same(one.compute(), frechet_distance(images[:20].flatten(1) / 255, images[20:].flatten(1) / 255))


def test_the_interval_of_many_rows_is_found_from_those_kept() -> None:
    """1,000 of 20,000 rows give the width within 15 %: its relative standard error is about 3 %."""
    fake, real = gauss(20_000, 4, 1), gauss(20_000, 4, 2, 0.3)
    found = fed(assay.Metric("frechet_distance", features=None, reservoir=1000), 999, fake=fake, real=real).compute()
    whole = frechet_distance(fake, real)
    assert isinstance(found, Estimate)
    widths = [high - low for low, high in (found.interval, whole.interval)]
    assert widths[0] == pytest.approx(widths[1], rel=0.15)
    assert found.n == whole.n == 20_000


def test_beyond_the_reservoir_batches_change_nothing_and_the_rows_used_are_told() -> None:
    fake, real = gauss(500, 4, 1), gauss(300, 4, 2)
    found = [
        fed(assay.Metric("precision", features=None, reservoir=100), batch, fake=fake, real=real) for batch in (1, 64)
    ]
    assert same(found[0].compute(), found[1].compute())
    assert found[0].samples == {
        "precision": {"fake": {"found": 500, "used": 100, "seed": 0}, "real": {"found": 300, "used": 100, "seed": 0}}
    }
    assert "fake: found 500, kept 100" in repr(found[0])
    other = fed(assay.Metric("precision", features=None, reservoir=100, reservoir_seed=1), fake=fake, real=real)
    assert not same(other.compute(), found[0].compute())


def test_memory_does_not_grow() -> None:
    """Beyond 400 batches, 800 more take less than one batch: those, or the next 800.

    Python's lists of freed objects fill up at first, which takes some 10 to 30 KB and ends. What grows with each batch
    does so both times.
    """
    metric = assay.Metric(["frechet_distance", "precision"], features=None, reservoir=500)
    metric.update(fake=gauss(500, 64))

    def held() -> int:
        state = metric.state_dict()["sets"]["fake"]
        return sum(x.nbytes for x in [*state["reservoir"].values(), *state["moments"][1:]] if isinstance(x, Tensor))

    tracemalloc.start()
    sizes, traced = [], []
    for count in (400, 800, 800):
        for seed in range(count):
            metric.update(fake=gauss(100, 64, seed))
        sizes.append(held())
        gc.collect()
        traced.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert set(sizes) == {500 * (64 * 4 + 8 + 8) + 8 * (64 + 64 * 64)}
    assert min(traced[1] - traced[0], traced[2] - traced[1]) < 100 * 64 * 4, traced


# Without traces


class Noisy(nn.Module):
    """In training mode it would draw noise and learn statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 5))
        self.layers[1].eval()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return self.layers(x)  # type: ignore[no-any-return]


def in_training(run: Callable[[], None]) -> None:
    run()


def under_no_grad(run: Callable[[], None]) -> None:
    with torch.no_grad():
        run()


def under_inference(run: Callable[[], None]) -> None:
    with torch.inference_mode():
        run()


def under_autocast(run: Callable[[], None]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        run()


def in_float64(run: Callable[[], None]) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        run()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("around", [in_training, under_no_grad, under_inference, under_autocast, in_float64])
def test_nothing_of_the_training_changes(around: Callable[[Callable[[], None]], None]) -> None:
    """In each surrounding the answer is the same, and so are modes, buffers, gradients and random numbers after it."""
    torch.manual_seed(3)
    network = Noisy()
    images = torch.rand(2, 30, 3, 2, 2)
    metric = assay.Metric(["frechet_distance", "kernel_distance", "precision"], features=network, reservoir=25)
    answers = []
    before = copy.deepcopy(network.state_dict())
    weight = torch.ones((), requires_grad=True)
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002

    def run() -> None:
        fake = images[0].float() * weight
        for part in fake.split(12):
            metric.update(fake=part, real=images[1, : len(part)])
        answers.append(metric.compute())

    around(run)
    assert torch.equal(torch.get_rng_state(), random[0])
    assert (np.random.get_state()[1] == random[1]).all()  # type: ignore[index]  # noqa: NPY002
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    kept = metric.state_dict()["sets"]["fake"]["reservoir"]["rows"]
    assert (kept.requires_grad, kept.dtype, kept.is_inference()) == (False, torch.float32, False)
    network.eval()
    with torch.no_grad():
        plain = assay.Metric(["frechet_distance", "kernel_distance", "precision"], features=None, reservoir=25)
        for part in images[0].split(12):
            plain.update(fake=network(part), real=network(images[1, : len(part)]))
    assert same(answers[0], plain.compute())
    metric.update(fake=images[0], real=images[1])  # it goes on outside of the surrounding


# Keeping, merging, processes


def test_reset_keeps_the_reals() -> None:
    metric = fed(assay.Metric("precision", features=None), fake=gauss(50), real=gauss(60, seed=1))
    first = metric.compute()
    metric.reset("fake")
    with pytest.raises(ValueError, match=r"fake: no samples were seen; call update\(fake=\.\.\.\) before compute"):
        metric.compute()
    assert same(fed(metric, fake=gauss(50)).compute(), first)
    metric.reset()
    with pytest.raises(ValueError, match="no samples were seen"):
        metric.compute()
    fed(metric, fake=gauss(50, 3), real=gauss(60, 3)).compute()  # another feature space


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("reservoir", [1000, 30])
def test_rows_of_several_devices_come_to_one(reservoir: int) -> None:
    fake, real = gauss(60, seed=1), gauss(50, seed=2)
    names = ["frechet_distance", "precision"]
    metric = fed(assay.Metric(names, features=None, reservoir=reservoir), fake=fake.cuda())
    metric.merge(fed(assay.Metric(names, features=None, reservoir=reservoir), real=real))
    fed(metric, real=real.cuda(), fake=fake)
    plain = fed(assay.Metric(names, features=None, reservoir=reservoir), fake=fake, real=real)
    found, right = metric.compute(), fed(plain, real=real, fake=fake).compute()
    assert isinstance(found, dict)
    assert isinstance(right, dict)
    for name in names:
        assert found[name].value == pytest.approx(right[name].value, rel=1e-9)


@pytest.mark.parametrize("reservoir", [1000, 40])
def test_a_state_and_a_pickle_go_on(reservoir: int) -> None:
    def new() -> assay.Metric:
        return assay.Metric(["frechet_distance", "recall"], features="pixels", reservoir=reservoir)

    images = torch.rand(2, 120, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    metric = fed(new(), fake=images[0, :60], real=images[1, :60])
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    loaded = new()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = [metric, loaded, pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)]
    for one in copies:
        fed(one, fake=images[0, 60:], real=images[1, 60:])
    assert len({repr(one.compute()) for one in copies}) == 1
    with pytest.raises(ValueError, match="state_dict is of frechet_distance, recall; features pixels; reservoir"):
        assay.Metric("recall", features="pixels").load_state_dict(metric.state_dict())


def test_merging_is_seeing_what_the_other_saw_next() -> None:
    fake, real = gauss(100, seed=1), gauss(90, seed=2)
    one = fed(assay.Metric("precision", features=None), fake=fake[:70], real=real[:5])
    one.merge(fed(assay.Metric("precision", features=None), fake=fake[70:], real=real[5:]))
    assert same(one.compute(), precision(fake, real))
    with pytest.raises(ValueError, match="is not of the same metrics, features and reservoir"):
        one.merge(assay.Metric("precision", features=None, k=3))


SCRIPT = """
import json, sys
import torch, torch.distributed as dist
import assay
rank, ranks = int(sys.argv[1]), 2
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=ranks)
g = torch.Generator().manual_seed(0)
fake, real = torch.randn(301, 5, generator=g), torch.randn(200, 5, generator=g) + 0.2
found = []

def answer(metric):
    try:
        answers = metric.compute()
        found.append([{name: [e.value, *e.interval, e.n] for name, e in answers.items()}, metric.samples])
    except ValueError as error:
        found.append(f"ValueError: {error}")

for reservoir in (1000, 80):
    metric = assay.Metric(["frechet_distance", "precision"], features=None, reservoir=reservoir)
    for batch in fake[rank::ranks].split(13 + rank):  # rank 0 has one row more
        metric.update(fake=batch)
    answer(metric)  # no reals anywhere
    for batch in real[rank::ranks].split(50):
        metric.update(real=batch)
    answer(metric)
    metric.reset()
    if rank == 0:
        metric.update(fake=fake, real=real)
    answer(metric)  # rank 1 has seen nothing
    if rank == 1:
        metric.update(fake=torch.zeros(3, 4))
    answer(metric)  # another dimension on rank 1
if rank == 0:
    alone = assay.Metric(["precision"], features=None, distributed=False)
    alone.update(fake=fake, real=real)
    answer(alone)
json.dump(found, open(f"{rank}.json", "w"))
dist.destroy_process_group()
"""


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Over gloo: uneven shards, a rank that saw nothing, errors. Beyond the reservoir both keep the rows of one."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "script.py", str(rank), str(tmp_path / "store")],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error.decode()
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert zero[:8] == one
    g = torch.Generator().manual_seed(0)
    fake, real = torch.randn(301, 5, generator=g), torch.randn(200, 5, generator=g) + 0.2
    for reservoir, (nothing, dealt, alone, unlike) in ((1000, zero[:4]), (80, zero[4:8])):
        metric = assay.Metric(["frechet_distance", "precision"], features=None, reservoir=reservoir)
        whole = fed(metric, 7, fake=fake, real=real).compute()
        assert isinstance(whole, dict)
        distance, share = ([e.value, *e.interval, e.n] for e in whole.values())
        assert nothing == "ValueError: real: no samples were seen; call update(real=...) before compute"
        assert dealt[0]["precision"] == share
        assert dealt[0]["frechet_distance"] == pytest.approx(distance, rel=1e-9)
        assert dealt[1] == alone[1] == metric.samples
        assert alone[0]["frechet_distance"][0] == pytest.approx(distance[0], rel=1e-9)
        if reservoir == 1000:  # beyond it, rank 0 alone numbers its rows 0, 2, 4, ... and draws others
            assert alone[0]["precision"] == share
        assert unlike == "ValueError: fake of rank 1: samples of shape [4], the others are [5]: give all one shape"
    single = precision(fake, real)
    assert zero[8][0] == {"precision": [single.value, *single.interval, single.n]}


# Statistics in place of samples


def test_published_statistics_take_the_place_of_the_reals(tmp_path: Path) -> None:
    fake, real = gauss(300, 6, 1), gauss(400, 6, 2, 0.2)
    source = fed(assay.Metric("frechet_distance", features=None), real=real)
    assay.write_statistics(tmp_path / "ref.npz", source.statistics("real"))
    known = assay.read_statistics(tmp_path / "ref.npz")
    metric = assay.Metric("frechet_distance", features=None)
    metric.update(real=known)
    fed(metric, fake=fake)
    found = metric.compute()
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(frechet_distance(fake, real).value, rel=1e-9)
    assert found == frechet_distance(fake, known)
    metric.reset("fake")
    assert fed(metric, fake=fake).compute() == found
    for wrong in (known, real):
        with pytest.raises(ValueError, match=r"real: .*statistics were given before; call reset\('real'\) first"):
            metric.update(real=wrong)
    with pytest.raises(ValueError, match="real: precision needs samples; mean and covariance are not enough for it"):
        assay.Metric(["frechet_distance", "precision"], features=None).update(real=known)
    again = pickle.loads(pickle.dumps(metric))
    other = assay.Metric("frechet_distance", features=None)
    other.load_state_dict(metric.state_dict())
    other.merge(fed(assay.Metric("frechet_distance", features=None), fake=gauss(5, 6, 9)))
    assert again.compute() == found != other.compute()


# Wrong use


def nan_in_row_3() -> Tensor:
    rows = gauss(10)
    rows[3] = torch.nan
    return rows


@pytest.mark.parametrize(
    ("metric", "features", "batches", "message"),
    [
        ("precision", None, [{}], "nothing to update: give fake= or real="),
        ("precision", None, [{"fakes": gauss(5)}], "precision reads fake and real, not 'fakes'"),
        ("precision", None, [{"fake": nan_in_row_3()}], "fake: 1 of 10 rows is not finite .* the first is row 3"),
        ("precision", None, [{"fake": gauss(0)}], "fake has 0 rows; at least 1 are needed"),
        ("precision", None, [{"fake": gauss(5)[0]}], r"fake has shape \[6\]; samples are \[N, D\]"),
        (
            "precision",
            None,
            [{"fake": gauss(5)}, {"fake": gauss(5, 7)}],
            r"fake: samples of shape \[7\], those of batches before are \[6\]",
        ),
        (
            "precision",
            None,
            [{"fake": gauss(5)}, {"real": torch.zeros(5, 6, dtype=torch.uint8)}],
            "real is uint8, batches before it were floating: bring all into one range",
        ),
        ("precision", "pixels", [{"fake": 2 * torch.rand(4, 3, 2, 2) - 1}], r"fake: .* images leave \[0, 1\]"),
        ("precision", "pixels", [{"fake": 255 * torch.ones(4, 3, 2, 2)}], "divide 8-bit values by 255"),
        ("precision", "pixels", [{"fake": torch.rand(4, 2, 2, 3)}], "put the channels first"),
        (
            "precision",
            "pixels",
            [{"fake": torch.rand(4, 3, 2, 2)}, {"fake": torch.rand(4, 3, 4, 4)}],
            r"fake: samples of shape \[3, 4, 4\], those of batches before are \[3, 2, 2\]",
        ),
        ("precision", "pixels", [{"fake": torch.full((2, 3, 2, 2), torch.nan)}], "fake: 2 of 2 rows are not finite"),
        (
            "precision",
            torch.nn.Flatten(0, 1),
            [{"fake": torch.rand(4, 3, 2, 2)}],
            r"features made \[12, 2, 2\] of 4 images: they must return a tensor \[N, D\]",
        ),
        ("frechet_distance", None, [{"real": gauss(9)}], "fake: no samples were seen"),
        ("frechet_distance", None, [{"real": gauss(9), "fake": gauss(1)}], "fake has 1 rows; at least 2 are needed"),
        ("precision", None, [{"fake": gauss(9), "real": gauss(4)}], "real has 4 rows; k=5 needs at least 6"),
        ("precision", None, [{"fake": gauss(9), "real": gauss(9, 7)}], "fake has 6 dimensions, real has 7"),
    ],
)
def test_wrong_use_is_one_clear_error(metric: str, features: Any, batches: list[Any], message: str) -> None:
    def use() -> None:
        used = assay.Metric(metric, features=features)
        for batch in batches:
            used.update(**batch)
        used.compute()

    with pytest.raises(ValueError, match=message) as refused:
        use()
    assert "\n" not in str(refused.value)


def test_a_covariance_that_no_memory_holds_is_refused_before_it_is_made() -> None:
    metric = assay.Metric("frechet_distance", features=None, reservoir=4)
    wide = torch.rand(8, 40_000)
    metric.update(fake=wide[:4], real=wide[4:])
    with pytest.raises(ValueError, match="fake: the covariance of 40,000 features has 12 GiB"):
        metric.update(fake=wide)


def test_a_refused_call_changes_nothing() -> None:
    metric = fed(assay.Metric("precision", features=None), fake=gauss(20), real=gauss(30, seed=1))
    before = metric.compute()
    with pytest.raises(ValueError, match="not finite"):
        metric.update(fake=gauss(5), real=nan_in_row_3())
    assert same(metric.compute(), before)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("pseudo_density",), {"features": None}, "pseudo_density scores each sample for itself"),
        (("reconstruction_error",), {"features": None}, "reads residual of a generator, which only a run has"),
        (("precision",), {}, "features: precision is of any feature space: name an extractor"),
        (("fid", "pixels"), {}, "fid is defined in inception alone"),
        (("precision", 3), {}, "features=3 must be the name of an extractor, a function, or None"),
        (("precision", None), {"kk": 3}, "unknown option of metric precision: 'kk'"),
        (("precision", None), {"k": "three"}, "metric precision: k='three' must be a whole number"),
        (("precision", None), {"reservoir": 1}, "reservoir=1: precision is computed from kept rows; keep 2 or more"),
        (("precision", None), {"reservoir": -1}, "reservoir=-1 must be a whole number, 0 or more"),
        (("precision", "pixels"), {"extractor": {"pth": ""}}, "unknown option of extractor pixels: 'pth'"),
        (([],), {}, "metric is an empty list"),
        (({"k": 3}, None), {}, "names no metric"),
    ],
)
def test_a_wrong_declaration_is_one_clear_error(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assay.Metric(*arguments, **options)


def test_unknown_names_are_told_with_near_ones() -> None:
    for arguments in (("precisoin", None), ("precision", "pixls")):
        with pytest.raises(LookupError, match="did you mean"):
            assay.Metric(*arguments)


def test_statistics_need_moments_or_all_rows() -> None:
    rows = gauss(50)
    metric = fed(assay.Metric("precision", features=None, reservoir=40), 20, real=rows[:40])
    torch.testing.assert_close(metric.statistics().mean, rows[:40].double().mean(0), rtol=1e-12, atol=1e-12)
    metric.update(real=rows[40:])
    with pytest.raises(ValueError, match="real: rows were left out, and no metric here keeps moments"):
        metric.statistics()
    with pytest.raises(ValueError, match="which='holdout' must be fake or real"):
        metric.statistics("holdout")


def test_a_row_without_reservoir_is_too_few() -> None:
    metric = assay.Metric("frechet_distance", features=None, reservoir=0)
    metric.update(fake=gauss(1), real=gauss(9))
    with pytest.raises(ValueError, match="fake has 1 rows; at least 2"):
        metric.compute()


def test_fid_takes_its_features_directly() -> None:
    fake, real = torch.rand(5, 2048), torch.rand(6, 2048)
    assert same(fed(assay.Metric("fid", features=None), fake=fake, real=real).compute(), fid(fake, real))


# What the document shows


def test_the_document_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Both blocks of docs/while-training.md, with pixels for the networks whose weights are not here."""
    loop, published = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "while-training.md").read_text(), re.DOTALL)
    assert len(loop.splitlines()) <= 20
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(60, 3, 2, 2, generator=generator)

    def network(seeds: Tensor) -> Tensor:
        return torch.rand(len(seeds), 3, 2, 2, generator=torch.Generator().manual_seed(int(seeds[0])))

    def batches(count: int) -> Iterator[Tensor]:
        yield from torch.arange(count).split(20)

    world: dict[str, Any] = {
        "real_loader": real.split(20), "epochs": 2, "train_one_epoch": lambda network: None, "network": network,
        "seed_loader": list(batches(40)),
    }  # fmt: skip
    exec(loop.replace('"inception"', '"pixels"'), world)
    lines = capsys.readouterr().out.splitlines()
    fake = torch.cat([network(seeds) for seeds in batches(40)]).flatten(1)
    value = frechet_distance(fake, real.flatten(1))
    assert [lines[0], lines[2]] == [f"{epoch} frechet_distance {value.value} {value.interval}" for epoch in range(2)]
    assert recall(fake, real.flatten(1)).n == 60
    assay.write_statistics(tmp_path / "statistics.npz", world["metric"].statistics("real"))
    name = str(tmp_path / "statistics.npz")
    exec(published.replace('"fid"', '"frechet_distance", features="pixels"').replace("statistics.npz", name), world)
    world["metric"].update(fake=fake.reshape(-1, 3, 2, 2))
    assert world["metric"].compute().value == pytest.approx(value.value, rel=1e-9)
