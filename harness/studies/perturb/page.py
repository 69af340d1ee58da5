"""What `perturb` found: what moved which way, whether the network was fooled, and samples before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from ...core.files import digest
from ...core.protocols import Record
from ...report import html
from ...report.figures import save_strips, slug
from ...report.tables import add_run, run_name
from ...report.typeset import number, with_interval
from ...run import Run

DIRECTIONS = ("lower", "higher")
BEFORE, MOVED, RANDOM = "before", "moved", "random"
OVER_BEFORE, OVER_RANDOM = f"{MOVED} - {BEFORE}", f"{MOVED} - {RANDOM}"
"""Of what a number is: samples before, moved, or moved at random, and paired differences."""
SETTING = (
    *("space", "features", "judge_space", "steps", "alpha"),
    *("k", "epochs", "samples_moved", "neighbours", "resamples"),
)
"""What all records of one call of the task have in common, by name."""
OWN = (
    "largest move", "predicted density", "exact density", "predicted density moves right",
    "exact density moves right", "fooled", "exact change a predicted one", "rank agreement", "calls", "precision",
    "recall", "frechet_distance",
)  # fmt: skip
"""Quantities that have a place of their own in the tables; the others are signals."""
NOTE = (
    "Latents follow the gradient of a network that learned the pseudo density of real samples in the features of the "
    "run. Predicted: by that network. Exact: by neighbours among the reals, on images as stored. A sample is fooled "
    "where the prediction moves the right way and the exact density does not. Random: moved as far in every "
    "coordinate, each way with probability 1/2. Precision, recall and Fréchet distance are those of all samples moved, "
    "against as many reals, in the feature space that judges. Every difference is paired, with its interval."
)


Setting = tuple[str, float, str]
"""Gradient, epsilon and direction."""
Numbers = Mapping[tuple[str, str], "pd.Series[float]"]
"""Rows of the table of one setting, by quantity and what it is of."""


def draw_grid(
    study: Run,
    setting: Mapping[str, object],
    gradient: str,
    epsilon: float,
    moved: Mapping[str, Tensor],
    original: Tensor,
) -> None:
    """Rows of the same samples: original, then as in `moved` (lower, higher, random), uint8 [N, C, H, W] each."""
    name_of_run = run_name(study.generator, study.dataset, study.seed, study.n)
    save_strips([original, *moved.values()], _picture(study.folder, run, setting, gradient, epsilon, list(moved)))


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = [html.heading("Samples moved by their pseudo density"), html.paragraph(NOTE, "note")]
    printed: list[str] = []
    for (run, *values), part in add_run(found["perturb"]).groupby(["run", *SETTING], sort=False):
        setting = dict(zip(SETTING, values, strict=True))
        body.append(html.heading(f"{run}, space {setting['space']}", 3))
        options = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.items())
        body.append(html.paragraph(options, "note"))
        printed.append(f"Moved by pseudo density, {run}, space {setting['space']}, judged in {setting['judge_space']}:")
        known = _numbers(part[part.part == "network"])
        if ("rank agreement", BEFORE) in known:
            line = (
                f"the network: squared error {number(known['held-out squared error', 'real'].value)} on held-out real "
                f"samples, rank agreement with the exact density {with_interval(known['rank agreement', BEFORE])} on "
                "generated ones"
            )
            body.append(html.paragraph(line))
            printed.append(f"  {line}")
        rows = part[part.part == "moved"].groupby(["gradient", "epsilon", "direction"], sort=False)
        settings: dict[Setting, Numbers] = {(str(g), float(e), str(d)): _numbers(rest) for (g, e, d), rest in rows}
        settings = {key: numbers for key, numbers in settings.items() if ("exact density", BEFORE) in numbers}
        words = [verdict(*key, numbers) for key, numbers in settings.items()]
        printed += [f"  {line}" for line in words]
        body += [html.items(words), *_tables(settings)]
        for gradient, epsilon in dict.fromkeys((gradient, epsilon) for gradient, epsilon, _ in settings):
            rows_of = [*(d for d in DIRECTIONS if (gradient, epsilon, d) in settings), RANDOM]
            path = _picture(folder, run, setting, gradient, epsilon, rows_of)
            if path.is_file():
                caption = f"{gradient} gradient, epsilon {epsilon:g}; rows: original, {', '.join(rows_of)}"
                body.append(html.figure(path, caption))
                printed.append(f"  picture: {path}")
    return body, printed


def verdict(gradient: str, epsilon: float, direction: str, numbers: Numbers) -> str:
    """One sentence on a setting: whether it works, and whether the network was fooled."""
    right, control = numbers["exact density moves right", MOVED], numbers["exact density moves right", RANDOM]
    change, sense = numbers["exact density", OVER_RANDOM], 1 if direction == "higher" else -1
    low, high = sorted((sense * change.low, sense * change.high))
    word = "works" if low > 0 else "works the wrong way" if high < 0 else "not decided"
    told = numbers["exact change a predicted one", MOVED]
    return (
        f"{direction}, {gradient} gradient, epsilon {epsilon:g}: {word}; the exact density moves the right way in "
        f"{with_interval(right)} of samples, at random in {with_interval(control)}; change against random "
        f"{with_interval(change)}; fooled {with_interval(numbers['fooled', MOVED])}; of the change that the network "
        f"promises, {with_interval(told)} is true"
    )


def _tables(settings: Mapping[Setting, Numbers]) -> list[str]:
    signals = list(dict.fromkeys(name for numbers in settings.values() for name, _ in numbers if name not in OWN))

    def rows(columns: Mapping[str, tuple[str, str]]) -> str:
        body = [
            [
                f"{direction}, {gradient}, {epsilon:g}",
                *(with_interval(numbers[at]) if at in numbers else "-" for at in columns.values()),
            ]
            for (gradient, epsilon, direction), numbers in settings.items()
        ]
        return html.table(["direction, gradient, epsilon", *columns], body)

    density = {
        "largest move": ("largest move", MOVED),
        "predicted before": ("predicted density", BEFORE),
        "predicted after": ("predicted density", MOVED),
        "exact before": ("exact density", BEFORE),
        "exact after": ("exact density", MOVED),
        "exact, random": ("exact density", RANDOM),
        "exact, moved - random": ("exact density", OVER_RANDOM),
        "right way": ("exact density moves right", MOVED),
        "right way, random": ("exact density moves right", RANDOM),
        "fooled": ("fooled", MOVED),
        "exact / predicted change": ("exact change a predicted one", MOVED),
        "rank agreement after": ("rank agreement", MOVED),
        "calls": ("calls", MOVED),
    }
    effects: dict[str, tuple[str, str]] = {}
    for name in ("precision", "recall", *signals):
        effects |= {f"{name} before": (name, BEFORE), f"{name} moved - before": (name, OVER_BEFORE)}
        effects[f"{name} moved - random"] = (name, OVER_RANDOM)
    effects |= {f"Fréchet {of}": ("frechet_distance", of) for of in (BEFORE, MOVED, RANDOM)}
    return [rows(density), rows(effects)]


def _numbers(part: pd.DataFrame) -> Numbers:
    return {(row.quantity, row.of): row for _, row in part.iterrows() if row.value == row.value}


def _picture(
    folder: Path, run: str, setting: Mapping[str, object], gradient: str, epsilon: float, rows: Sequence[str]
) -> Path:
    which = digest(*(setting[name] for name in SETTING), *rows)[:8]
    return folder / "figures" / f"perturb-{slug(run)}-{gradient}-{epsilon:g}-{which}.png"
