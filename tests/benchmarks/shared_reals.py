"""How much would a correlation with quality change with other real samples? `study.replicate.shared` takes the answer.

    .venv/bin/python -m tests.benchmarks.shared_reals     # 3 minutes of CPU time

All networks of a data set are judged by the same held-out images, and their scores read the same training codes: an
error that no number of networks averages out. Of the VAE of the zoo on each data set, the held-out images and 5,000
training codes are cut into random halves ten times. Fisher's z of a correlation differs between the two halves of a cut
by twice the variance that one half adds, and a half adds twice as much as all of the reals: a quarter of the mean
square of this difference is what the reals add. The quality is the mean rank of judge confidence and of minus the
distance to the nearest held-out image in pixels and in features of the classifier and of EfficientNet; class, image
complexity and norm are held fixed. Writes shared_reals.csv and .md.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from assay.harness.core.progress import say
from assay.harness.core.protocols import View
from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.run import Run
from assay.harness.stats.correlations import COMPOSITE, Correlations
from assay.metrics.latent_density import aggregate_posterior_ratio, latent_density, latent_knn
from assay.metrics.quality import nearest_feature, nearest_pixel

from .tables import arguments, publish

DATA = ("digits", "mnist", "fashion_mnist")
SAMPLES, CODES, CUTS = 2000, 5000, 10
COVARIATES = {"complexity": ["laplacian_variance", "mean_intensity"], "norm": "negative_norm"}
SPACES = ("pixels", "features", "efficientnet_lite")
Scored = Callable[[Tensor], Tensor]
"""Scores of the samples, given which rows of the real ones are looked at."""


def opened(data: str, folder: Path) -> Run:
    return open_run(
        {data: {}}, {"vae": {}}, folder, n=SAMPLES, n_real=CODES, covariates=COVARIATES,
        quality_signals=["judge_confidence"], extractors={"efficientnet_lite": {"size": 64}},
    )  # fmt: skip


def scores(run: Run) -> dict[str, Scored]:
    """Those of the page that read real samples, and how much the decoder stretches, which does not."""
    codes, mean, logvar = (
        run.views.tensor(view, run.seed, run.n)
        for view in (
            View("fake", "latent"),
            View("real", "latent", n=CODES),
            View("real", "latent", n=CODES, encode="logvar"),
        )
    )
    volume = run.oriented(run.cell("log_volume"))
    return {
        "latent density": lambda rows: latent_density(codes, mean[rows]),
        "latent k-NN": lambda rows: latent_knn(codes, mean[rows]),
        "aggregate posterior / prior": lambda rows: aggregate_posterior_ratio(codes, mean[rows], logvar[rows]),
        "log volume": lambda rows: volume,
    }


def truths(run: Run) -> dict[str, Scored]:
    """Minus the distance to the nearest held-out image, in each space."""
    found: dict[str, Scored] = {}
    for space in SPACES:
        fake, real = (
            run.views.tensor(View(source, space, n=n), run.seed, run.n)
            for source, n in (("fake", "same"), ("holdout", "all"))
        )  # type: ignore[arg-type]
        nearest = nearest_pixel if space == "pixels" else nearest_feature
        found[space] = partial(_nearest, nearest, fake, real)
    return found


def _nearest(metric: Callable[[Tensor, Tensor], Tensor], fake: Tensor, real: Tensor, rows: Tensor) -> Tensor:
    return -metric(fake, real[rows])


def halves(count: int, cut: int) -> tuple[Tensor, ...]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(cut)).tensor_split(2)


def measured(data: str) -> Iterator[tuple[str, str, float, float]]:
    """Data set, score, its correlation with all reals, and the variance that these add to its Fisher's z."""
    with tempfile.TemporaryDirectory() as folder:
        run = opened(data, Path(folder) / "shared_reals")
        fixed = {
            cell.label: run.oriented(cell)
            for name in ("judge_confidence", "laplacian_variance", "mean_intensity", "negative_norm")
            for cell in [run.cell(name)]
        }
        held = [label for label in fixed if label != "judge_confidence"]
        _, classes = run.sample_classes()
        scored, judged = scores(run), truths(run)
        sizes = (
            len(run.views.tensor(View("real", "latent", n=CODES), run.seed, run.n)),
            run.views.data.count("test"),
        )

        def z(codes: Tensor, images: Tensor) -> dict[str, float]:
            columns = fixed | {name: score(codes) for name, score in scored.items()}
            columns |= {name: truth(images) for name, truth in judged.items()}
            correlations = Correlations(columns, classes, 2, 0, ["judge_confidence", *judged])
            found = correlations.of(list(scored), [COMPOSITE], held, stratify=True)
            return {score: math.atanh(estimate.value) for (score, _), estimate in found.items()}

        whole = z(*map(torch.arange, sizes))
        squares: dict[str, list[float]] = {name: [] for name in scored}
        for cut in range(CUTS):
            one, other = (z(*rows) for rows in zip(*(halves(size, cut) for size in sizes), strict=True))
            for name, values in squares.items():
                values.append((one[name] - other[name]) ** 2)
        for name, values in squares.items():
            yield data, name, math.tanh(whole[name]), statistics.fmean(values) / 4


def main() -> None:
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    discover()
    rows: list[tuple[str, str, float, float]] = []
    for data in DATA:
        if given.only in data:
            rows += measured(data)
            say(f"{data}: {time.process_time():.0f} s of CPU time so far")
    table = pd.DataFrame(rows, columns=["data set", "score", "partial correlation", "variance"])
    table["deviation of Fisher's z"] = [f"{math.sqrt(value):.3f}" for value in table.variance]
    table["partial correlation"] = [f"{value:.3f}" for value in table["partial correlation"]]
    table["variance"] = [f"{value:.2g}" for value in table.variance]
    publish(table, given.out, "shared_reals", f"# What the real samples add\n\n{about()}")


def about() -> str:
    """The docstring without its first line and without what it writes."""
    _, command, text = (__doc__ or "").strip().split("\n\n")
    return f"{command}\n\n{text.removesuffix(' Writes shared_reals.csv and .md.')}"


if __name__ == "__main__":
    main()
