"""Is this generator better than that one? Set metrics of both, and their differences with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...arrays.opened import open_generator
from ...arrays.views import Views
from ...core.protocols import Part, Row
from ...core.registry import study
from ...run import Run
from ..same_seeds import SameSeeds
from .page import page

THIS, OTHER, DIFFERENCE = "this", "other", "difference"
"""Of what a number is: of the run's generator, of the other one, or what lies between them."""


@dataclass(frozen=True)
class Options:
    """What to compare with.

    to:     generators by name or {name: options}: study.compare.to=[vae,{stylegan2: {truncation: .7}}].
    spaces: feature spaces that judge.
    halves: random halves of samples and reals, by which the intervals of differences are found.
    """

    to: Sequence[str | Mapping[str, Mapping[str, Any] | None]] = ()
    spaces: Sequence[str] = ("features",)
    halves: int = 20


@study(page=page, compare=("metric", "space", "subject"))
def compare(run: Run, options: Options) -> Iterator[Part]:
    """The set metrics of this generator and of others, on the same seeds and reals, and their differences.

    A generator's own interval holds for other samples against these reals. That of a difference comes from random
    halves of samples and reals, and holds for other reals too. In simulations (500 Gaussian samples of each generator
    and 500 reals, equal and different generators, 300 times) it covered the true difference of Fréchet distance,
    precision, recall, density and coverage in 93 to 99 %. Claims are corrected for all metrics, spaces and generators.
    """
    if not options.to:
        raise ValueError("name the generators to compare with: study.compare.to=[NAME,{NAME: {OPTION: VALUE}}]")
    same, here = SameSeeds(run, options.spaces, run.n, options.halves), run.views
    for entry in options.to:
        node = {entry: {}} if isinstance(entry, str) else entry
        name, generator, _ = open_generator(here.data.name, node, run.data_options)
        there = Views(here.data, generator, here.features, here.store, here.device, here.options)
        setting = {"against": name, "halves": options.halves, "spaces": ", ".join(same.spaces)}
        fingerprints = {"against": generator.fingerprint}
        yield Part(partial(_compared, same, here, there), setting, cells=same.cells, fingerprints=fingerprints)


def _compared(same: SameSeeds, here: Views, there: Views) -> Iterator[Row]:
    subjects = {THIS: same.values(here), OTHER: same.values(there), DIFFERENCE: same.differences(here, there)}
    for subject, values in subjects.items():
        yield from (Row((*keys, subject), value) for keys, value in values.items())
