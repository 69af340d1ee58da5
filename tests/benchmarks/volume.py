"""What do volume scores cost, how exact are they, and how well does a small network stand for them?

    .venv/bin/python -m tests.benchmarks.volume --only jacobian   # beside an exact one: some seconds
    .venv/bin/python -m tests.benchmarks.volume --only probes     # 1.5 minutes of CPU time
    .venv/bin/python -m tests.benchmarks.volume --only quality    # the learned volume and signs of quality: minutes

Writes results/benchmarks/volume.csv and volume.md (or --out). With --only, the other rows of the table stay. All of the
networks of the zoo for Fashion-MNIST.
"""

import copy
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from assay.harness.core.progress import say
from assay.harness.core.protocols import Estimate
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.open_run import open_run
from assay.harness.report.typeset import markdown_table
from assay.harness.stats.correlations import COMPOSITE
from assay.harness.stats.jacobians import DIRECTIONS, derivative, orthonormal_rows, singular_values, squared_stretch
from assay.harness.studies.carry_out import carry_out
from assay.metrics.volume import log_norm, log_volume

from .tables import arguments

DATA = "fashion_mnist"
PROBES = (1, 2, 4, 6, 8, 16)
DRAWS = 500
"""Draws of the directions, each with a bootstrap resample of the codes."""
TIMED = 100
SIGNALS = ("judge_confidence", "nearest_pixel", "nearest_feature", "real_log_odds")
COVARIATES = {"complexity": ["laplacian_variance", "mean_intensity"], "norm": "negative_norm"}
HELD = "class + complexity + norm"
COLUMNS = ("part", "generator", "space", "dimensions", "codes", "setting", "quantity", "value", "low", "high")
Rows = Iterator[tuple[Any, ...]]


class Family(NamedTuple):
    """codes: so many are differentiated in all dimensions."""

    generator: str
    space: str
    codes: int


FAMILIES = (Family("vae", "z", 1000), Family("latent_diffusion", "z_0", 1000), Family("stylegan2", "w", 200))


def opened(family: Family) -> Any:
    return GENERATORS[family.generator].function(DATA)


def jacobian(family: Family) -> Rows:
    """The scores of a VAE, float32 and forward mode, beside a Jacobian by reverse mode in float64."""
    model, count = opened(family), 10
    codes = model.latents(range(count), "z")
    exact = copy.deepcopy(model)
    exact.network.double()

    def decode(code: Tensor) -> Tensor:
        found: Tensor = exact.decode(code[None], "z")[0].flatten()
        return found

    jacobians = torch.stack([torch.autograd.functional.jacobian(decode, code) for code in codes.double()])  # type: ignore[no-untyped-call]
    values = torch.linalg.svdvals(jacobians)
    about = ("jacobian", "vae", "z", codes.shape[1], count)
    stretch = squared_stretch(partial(model.decode, space="z"), codes, codes.shape[1])
    for form, here, there in (
        ("norm, all axes", log_volume(stretch), values.square().sum(1).log() / 2),
        ("logdet", log_volume(singular=singular_values(partial(model.decode, space="z"), codes), form="logdet"),
         values.log().sum(1)),
    ):  # fmt: skip
        yield *about, form, "largest difference", float((here - there).abs().max()), "", ""
        yield *about, form, "spread of the score", float(there.std()), "", ""


def probes(family: Family) -> Rows:
    """How close random directions come to the norm of the whole Jacobian, and what they cost."""
    model = opened(family)
    with torch.no_grad():
        codes = model.latents(range(family.codes), family.space)
    decode = partial(model.decode, space=family.space)
    size = codes[0].numel()
    lengths = torch.stack(  # of all directions of a random basis, of which any few are random directions, too
        [derivative(decode, codes, row).double().square().sum(1) for row in orthonormal_rows(size, size - 1)]
        + [derivative(decode, codes, last_of(size)).double().square().sum(1)], 1
    )  # fmt: skip
    about = ("probes", family.generator, family.space, size, family.codes)
    exact, took = log_norm(lengths), np.median([seconds(decode, codes[:TIMED]) for _ in range(5)])
    for count in (*PROBES, *([size] if size > max(PROBES) else [])):
        found = kept(lengths, exact, count)
        yield *about, count, "rank correlation", found.value, *found.interval
        if count == DIRECTIONS:
            of_product = log_norm(squared_stretch(decode, codes))
            yield *about, count, "as the product draws", spearman(of_product.numpy(), exact.numpy()), "", ""
        yield *about, count, "calls", 2 * count, "", ""
        yield *about, count, "cpu_ms", 1000 * float(took) * count / TIMED, "", ""


def last_of(size: int) -> Tensor:
    """The direction that completes `orthonormal_rows(size, size - 1)` to a basis."""
    rows = orthonormal_rows(size, size - 1).double()
    left = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(2):
        left = left - rows.T @ (rows @ left)
    return (left / left.norm()).float()


def kept(lengths: Tensor, exact: Tensor, count: int) -> Estimate:
    """Median and 95 % of the rank correlation over draws of `count` directions and of the codes."""
    rng, values = np.random.default_rng(count), lengths.numpy()
    found = []
    for _ in range(DRAWS):
        directions = rng.permutation(values.shape[1])[:count]
        rows = rng.integers(0, len(values), len(values))
        found.append(spearman(values[rows][:, directions].mean(1), exact.numpy()[rows]))
    low, value, high = np.quantile(found, (0.025, 0.5, 0.975)).tolist()
    return Estimate(value, (low, high), len(values))


def spearman(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def seconds(decode: Any, codes: Tensor) -> float:
    """Of one derivative at each code."""
    direction, begin = orthonormal_rows(codes[0].numel(), 1)[0], time.process_time()
    derivative(decode, codes, direction)
    return time.process_time() - begin


def quality(family: Family) -> Rows:
    """`log_volume` and the learned volume on the same samples: partial rank correlations with signs of quality."""
    scores = [{"metric": name, "space": f"latent:{family.space}"} for name in ("log_volume", "amortised_volume")]
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(
            {DATA: {}}, {family.generator: {}}, Path(folder) / "volume", n=2000, scores=scores,
            quality_signals=SIGNALS, covariates=COVARIATES,
        )  # fmt: skip
        about = ("quality", family.generator, family.space, "", 2000)
        fit = run.evaluate(run.cell("amortised_volume_fit", space=f"latent:{family.space}"))
        (estimate,) = fit.values.values()
        yield *about, "amortised_volume", "R²", estimate.value, *estimate.interval
        labels = [cell.label for cell in run.cells(scores)]
        names = dict(zip(labels, ("log_volume", "amortised_volume"), strict=True))
        for record in carry_out(run, "correlate", resamples=500, composite=True, against=scores[:1]):
            told, table = record.cell.params.get("covariates", ""), record.cell.metric
            for keys, value in record.values.items():
                if table == "agreement" and keys == (labels[0], labels[1]):
                    yield *about, "amortised_volume", "with log_volume", value.value, *value.interval
                if told not in ("nothing", HELD) or keys[-1] != COMPOSITE or table not in ("correlate", "gain"):
                    continue
                if table == "gain" and keys[0] == labels[0]:
                    continue
                what = "composite" if table == "correlate" else "less log_volume"
                held = ", partial" if told == HELD else ""
                yield *about, names[str(keys[0])], f"{what}{held}", value.value, *value.interval


PARTS = {"jacobian": jacobian, "probes": probes, "quality": quality}
CASES = [("jacobian", FAMILIES[0]), *((part, family) for part in ("probes", "quality") for family in FAMILIES)]
TEXTS = {
    "jacobian": "## Beside an exact Jacobian\n\nLargest difference between `log_volume` (float32, forward mode) and "
    "the same by reverse mode in float64, in nats; beside it the standard deviation of the score over codes.",
    "probes": "## Probes\n\nRank correlation (Spearman) of the norm from K random directions with that of the whole "
    f"Jacobian: median and 95 % of {DRAWS:,} draws of the directions and of the codes; beside it for the six "
    "directions that `log_volume` draws, at all codes. A derivative counts as two generator calls. CPU milliseconds a "
    f"sample are K times those of one derivative, the median of five runs on {TIMED} codes, on one thread.",
    "quality": "## The learned volume\n\n`amortised_volume` learns from 4,000 codes and is then asked about 2,000 "
    "samples without the decoder. R²: of 800 codes, learned from the other 3,200. With log_volume: rank correlation of "
    "the two. Composite: rank correlation with the mean rank of judge confidence, nearest held-out pixels and "
    "features, and `real_log_odds`; low volume counts as good. Less log_volume: the difference, paired. Partial: "
    "class, image complexity and norm are held fixed. Intervals are 95 % each, for other samples of the same network.",
}


def number(value: Any) -> str:
    if isinstance(value, str) or float(value).is_integer():
        return str(value).removesuffix(".0")
    return f"{value:.2g}" if abs(value) < 0.001 else f"{value:.3f}"


def estimated(row: Any) -> str:
    return number(row.value) + ("" if row.low == "" else f" ({number(row.low)} to {number(row.high)})")


def tabled(part: str, rows: pd.DataFrame) -> str:
    """A table of one part: a row for each generator and setting, a column for each quantity."""
    columns = list(dict.fromkeys(rows.quantity))
    lines = []
    for about, some in rows.groupby(["generator", "space", "dimensions", "codes", "setting"], sort=False):
        cells = {row.quantity: estimated(row) for row in some.itertuples()}
        lines.append([*map(str, about), *(cells.get(name, "") for name in columns)])
    head = ["generator", "space", "dimensions", "codes", "probes" if part == "probes" else "score", *columns]
    title, text = TEXTS[part].split("\n\n")
    return f"{title}\n\n{fill(text, 140, break_on_hyphens=False)}\n\n{markdown_table(head, lines).strip()}"


def written(rows: pd.DataFrame, folder: Path) -> None:
    """Put new rows in the place of the old ones of the same part and generator, and write the table and the page."""
    file, keys = folder / "volume.csv", ["part", "generator"]
    old = pd.read_csv(file, keep_default_na=False) if file.is_file() else pd.DataFrame(columns=COLUMNS)
    kept = ~pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(rows[keys]))
    table = pd.concat([old[kept], rows]).astype(object)
    for column in ("value", "low", "high"):
        table[column] = ["" if value == "" else float(f"{float(value):.4g}") for value in table[column]]
    at = [
        CASES.index((part, one)) for part, name in table[keys].to_numpy() for one in FAMILIES if one.generator == name
    ]
    table = table.iloc[np.argsort(at, kind="stable")]
    table.to_csv(file, index=False, lineterminator="\n")
    commands = [line for line in (__doc__ or "").splitlines() if line.startswith("    ")]
    parts = [tabled(part, table[table.part == part]) for part in PARTS if (table.part == part).any()]
    file.with_suffix(".md").write_text("\n\n".join(["# Volume scores", "\n".join(commands), *parts]) + "\n")


def main() -> None:
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    discover()
    given.out.mkdir(parents=True, exist_ok=True)
    for part, family in CASES:
        if given.only in f"{part} {family.generator}":
            written(pd.DataFrame(PARTS[part](family), columns=COLUMNS), given.out)
            say(f"{part}, {family.generator}: {time.process_time():.0f} s of CPU time so far")


if __name__ == "__main__":
    main()
