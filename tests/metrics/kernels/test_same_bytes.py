"""Fréchet distances to the last bit: on one thread and two, in other processes and threads, after other work."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

from assay.harness.core.precision import one_blas_thread
from assay.metrics.frechet import frechet_distance, frechet_value

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import torch
from test_same_bytes import found
if {after}:
    torch.randn(300, 300) @ torch.randn(300, 300)
    torch.randn(200, 200).numpy() @ torch.randn(200, 200).numpy()
print(found())
"""


def sets(m: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(d)
    return torch.randn(m, d, generator=generator) + 0.1, 1.2 * torch.randn(n, d, generator=generator)


def found() -> list[str]:
    """Values and intervals to their last digit, of few rows and of many, and of a covariance without an inverse."""
    shapes = [(9, 11, 3), (70, 60, 17), (20, 23, 31), (18, 40, 33), (220, 210, 100), (300, 120, 200), (640, 620, 200)]
    pairs = [sets(*shape) for shape in shapes]
    fake, real = sets(300, 310, 64)
    fake[:, 5], real[:, 5] = 0, 0
    return [repr(frechet_distance(*pair)) for pair in [*pairs, (fake, real)]]


def test_threads_processes_and_other_work_change_nothing() -> None:
    alone = found()
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda _: found(), range(2)))
    assert beside == [alone, alone]
    for threads, after in ((1, False), (2, True)):
        program = PROGRAM.format(folder=os.path.dirname(__file__), after=after)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == repr(alone), done.stderr


@pytest.mark.parametrize(("m", "n", "d"), [(40, 60, 192), (12, 500, 30), (2, 3, 3), (40, 40, 40)])
def test_the_order_of_few_rows_changes_nothing(m: int, n: int, d: int) -> None:
    """The sum of centred rows is 0. An eigenvalue of rounding alone stood for it: its root was 1e-10 or nothing."""
    fake, real = sets(m, n, d)
    whole = frechet_distance(fake, real)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = fake[torch.randperm(m, generator=generator)]
        assert frechet_distance(other, real).value == pytest.approx(whole.value, rel=1e-14)
        assert frechet_value(other, real) == pytest.approx(whole.value, rel=1e-14)
        if n <= d:
            assert frechet_distance(other, real[torch.randperm(n, generator=generator)]) == whole


def test_few_rows_have_the_distance_of_their_covariances() -> None:
    """To the digits that singular values have: nothing of rounding is under a root."""
    fake, real = (rows.double() for rows in sets(40, 60, 192))
    a, b = ((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in (fake, real))
    exact = float((fake.mean(0) - real.mean(0)).square().sum() + a.square().sum() + b.square().sum())
    exact -= 2 * float(torch.linalg.svdvals(a @ b.T).sum())
    assert frechet_distance(fake, real).value == pytest.approx(exact, rel=1e-13)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_blas_thread_holds_in_every_thread_and_ends() -> None:
    before, inside = blas_threads(), []
    start = threading.Barrier(2)

    def work(_: int) -> None:
        start.wait()
        for _ in range(20):
            with one_blas_thread():
                np.ones((64, 64)) @ np.ones((64, 64))
                inside.append(blas_threads())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert inside == [{1}] * 40
    assert blas_threads() == before
