"""Writes the tables of results/latent_density/README.md from those of results/replicate.

    .venv/bin/python -m tests.benchmarks.verdicts    # some seconds, after `assay run experiment=replicate out=results`

A table of the page is found by the first cell of its header, and its rows are made anew; the text stays as it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from assay.harness.arrays.records import read_records
from assay.harness.core.registry import discover
from assay.harness.report.tables import tables
from assay.harness.report.typeset import markdown_table
from assay.harness.studies.replicate.decisions import FAILS, HOLDS, decision

RESULTS = Path(__file__).parents[2] / "results"
PAGE = RESULTS / "latent_density" / "README.md"

COLUMNS = {
    ("vae", "digits"): "VAE, digits",
    ("vae", "mnist"): "VAE, MNIST",
    ("vae", "fashion_mnist"): "VAE, Fashion",
    ("latent_diffusion", "digits"): "diffusion, digits",
    ("latent_diffusion", "mnist"): "diffusion, MNIST",
    ("latent_diffusion", "fashion_mnist"): "diffusion, Fashion",
    ("stylegan2", "digits"): "StyleGAN2, digits",
    ("stylegan2", "mnist"): "StyleGAN2, MNIST",
    ("stylegan2", "fashion_mnist"): "StyleGAN2, Fashion",
    ("sdf_vae", "sdf_primitives(train=8000)"): "VAE, shapes",
}
"""Families and data sets, with their columns."""

LATENT = ("latent_density", "latent_density(space=latent:w, encode=prior)")
BOTH = "volume_corrected_density(q=posterior_ratio, form=standardised)"
SCORES: dict[str, tuple[str, ...]] = {
    "latent density": LATENT,
    "**latent density**, bandwidth .2": LATENT,
    "latent density, bandwidth .1": (
        "latent_density(bandwidth=0.1)",
        "latent_density(bandwidth=0.1, space=latent:w, encode=prior)",
    ),
    "latent density of sampled codes": ("latent_density(encode=sample)",),
    "latent density of inverted codes": (
        "latent_density(encode=inversion, n_real=300)",
        "latent_density(space=latent:w, encode=inversion, n_real=300)",
    ),
    "latent k-NN": ("latent_knn", "latent_knn(space=latent:w, encode=prior)"),
    "one Gaussian": ("gaussian_log_density", "gaussian_log_density(space=latent:w, encode=prior)"),
    "Gaussian mixture": ("mixture_log_density",),
    "learned density ratio": ("density_ratio",),
    "aggregate posterior / prior": ("aggregate_posterior_ratio",),
    "log volume": ("log_volume", "log_volume(space=latent:w)"),
    "volume, learned": ("amortised_volume", "amortised_volume(space=latent:w)"),
    "volume and posterior together": (BOTH,),
    "volume and density together": (
        "volume_corrected_density(form=standardised)",
        "volume_corrected_density(form=standardised, space=latent:w)",
    ),
    "path length of the predictions": ("prediction_path_length",),
    "norm of the first prediction": ("first_prediction_norm",),
    "error of denoising": ("denoising_error",),
    "discriminator, after generation": ("discriminator_logit",),
    "minus the norm": ("negative_norm", "negative_norm(space=latent:w)"),
    "random": ("random_score",),
}
"""Scores of the page by their names there; the last one of each is that of StyleGAN2, in w where it has codes."""

KEY = ["family", "trained_on", "signal", "against", "score"]
KEPT = (
    "latent density", "latent k-NN", "aggregate posterior / prior", "log volume", "volume, learned",
    "volume and posterior together", "minus the norm", "random",
)  # fmt: skip


class Table(NamedTuple):
    """signal: what is told. against: "" for the correlation itself. share: whether that of the ceiling is shown."""

    rows: tuple[str, ...]
    signal: str
    against: str = ""
    share: bool = False


TABLES = {
    "correlation": Table(
        tuple(label for label in SCORES if label not in ("latent density", "minus the norm")), "composite", share=True
    ),
    "gain in correlation": Table(
        (
            "latent density of sampled codes", "latent density of inverted codes", "aggregate posterior / prior",
            "log volume", "volume, learned", "volume and posterior together", "volume and density together",
            "path length of the predictions", "norm of the first prediction", "error of denoising",
            "discriminator, after generation",
        ), "composite", "latent density"
    ),
    "gain in precision": Table(KEPT, "precision, best 10 %", "chance"),
    "gain in recall": Table(KEPT, "recall, best 10 %", "chance"),
    "Fréchet distance saved": Table(KEPT, "Fréchet distance saved, best 10 %", "chance"),
    "precision over truncation": Table(KEPT, "precision, best 10 %", "truncation"),
}  # fmt: skip
"""Tables of the page, by the first cell of their headers."""


def named(label: str, family: str) -> tuple[str, ...]:
    """What records may call a score of the page; the first that they have counts."""
    names = SCORES[label]
    if family != "stylegan2":
        return names[:1]
    # Where the volume is learned, replicate calls it after its own space, which is w if that is asked for.
    return tuple(reversed(names)) if label == "volume, learned" else names[-1:]


def number(value: float) -> str:
    """Three digits after the point, and no 0 before it: -.123."""
    text = f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def cell(rows: pd.DataFrame, share: bool) -> str:
    """What is expected of a new network, its interval, the share of the ceiling, and what is decided."""
    of = {row.quantity: row for row in rows.itertuples()}
    new = of.get("new network")
    if new is None or pd.isna(new.value):
        return ""
    text = f"{number(new.value)} ({number(new.low)} to {number(new.high)})"
    if share and "share of the ceiling" in of:
        text += f", {100 * of['share of the ceiling'].value:.0f} %".replace("-0 %", "0 %")
    return text + {HOLDS: " **+**", FAILS: " x"}.get(decision(rows), "")


def made(title: str, table: Table, groups: Mapping[tuple[str, ...], pd.DataFrame]) -> str:
    """The table in Markdown, without what was not measured at all. groups: rows by the columns of KEY."""
    columns = {key: name for key, name in COLUMNS.items() if any(known[:2] == key for known in groups)}
    lines = []
    for label in table.rows:
        cells = []
        for family, dataset in columns:
            against = named(table.against, family)[0] if table.against in SCORES else table.against
            keys = [(family, dataset, table.signal, against, name) for name in named(label, family)]
            found = [cell(groups[key], table.share) for key in keys if key in groups]
            cells.append(next((one for one in found if one), ""))
        if any(cells):
            lines.append([label, *cells])
    return markdown_table([title, *columns.values()], lines)


def page(text: str, numbers: pd.DataFrame) -> str:
    """The text of the page with its tables made anew. Raises ValueError where it lacks one of them."""
    lines, groups = text.split("\n"), dict(list(numbers.fillna({"against": ""}).groupby(KEY)))
    for title, table in TABLES.items():
        starts = [i for i, line in enumerate(lines) if line.startswith(f"| {title} |")]
        if len(starts) != 1:
            raise ValueError(f"the page has {len(starts)} tables whose header begins with {title!r}; it needs one")
        end = next(i for i in range(starts[0], len(lines)) if not lines[i].startswith("|"))
        lines[starts[0] : end] = made(title, table, groups).splitlines()
    return "\n".join(lines)


def published() -> pd.DataFrame:
    """The numbers of results/replicate, in full: its csv has six digits of each."""
    discover()
    return tables(read_records(RESULTS / "replicate"))["replicate"]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), published()))
