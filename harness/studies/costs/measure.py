"""What does a score cost? Generator calls and seconds for each sample, beside those of making and judging it."""

import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ...arrays.store import Store
from ...arrays.views import Views
from ...core.protocols import Cell, Estimate, Generator, Part, Row, View
from ...core.registry import study
from ...evaluate import call
from ...run import Run
from .page import CALLS, CALLS_ONCE, MAKING, SECONDS, SECONDS_ONCE, page


@dataclass(frozen=True)
class Options:
    """count: samples by which the cost of each is measured."""

    count: int = 250


@study(page=page, costs=("quantity",))
def costs(run: Run, options: Options) -> Iterator[Part]:
    """What every score and every signal of quality costs, computed anew in an empty store.

    It is computed of `count` samples, which shows what it needs once (reference codes, a network that learns, libraries
    that load), then of `count` and of twice as many others: what these cost more is the cost of a sample. Seconds are
    those of the processor, summed over its cores; on a GPU they are those that pass. A generator call decodes one code;
    a derivative in forward mode counts as two, the value and what changes. Scores that look at a sample have the call
    that makes it in their cost. Sampling codes, as by the steps of a diffusion model, is in the seconds alone.

    Times are those of one machine at one moment: differences of a few tenths mean nothing.
    Raises ValueError for a count below 2, or where fewer samples than four times the count are stored.
    """
    total = run.views.total
    if options.count < 2 or (total is not None and 4 * options.count > total):
        raise ValueError(f"count={options.count} must be 2 or more, and at most a quarter of the stored samples")
    about = {"count": options.count, "measured_on": run.views.device.type}
    made = {"images": View("fake", "images")}
    yield Part(partial(_making, run, options.count), {"score": MAKING, **about}, views=made)
    for cell in run.cells([*run.scores, *run.quality_signals]):
        yield Part(partial(_scoring, run, cell, options.count), {"score": cell.label, **about}, cells=[cell])


class Calls:
    """A generator whose decoded codes are counted; `generator` is all else that it is."""

    def __init__(self, generator: Generator):
        self.count, self._decode = 0, generator.decode
        self.generator = copy.copy(generator)
        self.generator.decode = self._counted  # type: ignore[method-assign]

    def _counted(self, latents: Tensor, space: str) -> Tensor:
        twice = forward_ad.unpack_dual(latents).tangent is not None  # type: ignore[no-untyped-call]
        self.count += (1 + twice) * len(latents)
        return self._decode(latents, space)


def _making(run: Run, count: int) -> Iterator[Row]:
    images = View("fake", "images")
    return _measured(run, lambda views, seed, n: views.tensor(images, seed, n), count)


def _scoring(run: Run, cell: Cell, count: int) -> Iterator[Row]:
    return _measured(run, lambda views, seed, n: call(replace(cell, seed=seed, n=n), views), count)


def _measured(run: Run, work: Callable[[Views, int, int], object], count: int) -> Iterator[Row]:
    here, calls = run.views, Calls(run.views.generator)
    seconds, counts = [], []
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        views = Views(here.data, calls.generator, here.features, Store(Path(folder)), here.device, here.options)
        views.forget()  # what this process has in memory was paid for before
        for repeat, n in enumerate((count, count, 2 * count)):
            before, began = calls.count, _now(here.device)
            work(views, run.seed + repeat, n)
            seconds.append(_now(here.device) - began)
            counts.append(calls.count - before)
        views.forget()
    for (each, once), values in (((SECONDS, SECONDS_ONCE), seconds), ((CALLS, CALLS_ONCE), counts)):
        of_one = max(0.0, (values[2] - values[1]) / count)
        for quantity, value in ((each, of_one), (once, max(0.0, values[0] - count * of_one))):
            yield Row((quantity,), Estimate(value, (math.nan, math.nan), count))


def _now(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
