"""What `fine_tune` found: which of the paper's claims hold, tables of differences, the course of training, samples."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ...core.files import digest
from ...core.protocols import Record
from ...report import html
from ...report.figures import BLUE, GREY, ORANGE, save, save_strips, slug
from ...report.tables import add_run, run_name
from ...report.typeset import with_interval
from ...run import Run

UNTUNED, NOTHING = "untuned", "nothing"
"""The generator before; and what a number that is no difference is compared with."""
SETTING = ("trainer", "control", "samples_judged", "halves", "curve")
"""What all records of one call of the task have in common, by name."""
STRONG = 10
"""Weights from which on, or below the inverse of which, a tuning is for precision or recall; milder ones for FID."""
COLOURS = (GREY, BLUE, ORANGE, "#1a7f37", "#8250df", "#bf3989")
NOTE = (
    "Each generator goes on from the same weights for as many images; the control does so without weights. All are "
    "judged by the same seeds and the same reals. Intervals of differences hold for other samples and reals (by "
    "random halves, rather wide than narrow), not for another training: how far two controls of different seeds lie "
    "apart tells of that. Spaces other than the one whose density steers judge what did not steer."
)

Numbers = Mapping[tuple[str, str, str, str], "pd.Series[float]"]
"""Rows of the table by tuning, metric, space, and what the number is compared with."""


def draw_samples(
    study: Run, setting: Mapping[str, object], strips: Callable[[], Sequence[Tensor]], again: bool
) -> None:
    """A row of samples, uint8 [N, C, H, W], for the untuned generator and each tuning: the same seeds.

    Drawn where it is missing, or `again`: opening every tuning takes a while.
    """
    path = _picture(study.folder, "tuned", run_name(study.generator, study.dataset, study.seed, study.n), setting)
    if again or not path.is_file():
        save_strips(strips(), path)


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = [html.heading("Fine-tuning by pseudo density"), html.paragraph(NOTE, "note")]
    printed: list[str] = []
    courses = add_run(found["fine_tune_course"]) if "fine_tune_course" in found else None
    for (run, *values), part in add_run(found["fine_tune"]).groupby(["run", *SETTING], sort=False):
        setting = dict(zip(SETTING, values, strict=True))
        numbers = {(r.tuning, r.metric, r.space, r.against): r for _, r in part.iterrows() if r.value == r.value}
        words = verdicts(part, numbers, str(setting["control"]))
        printed += [f"Fine-tuned by pseudo density, {run}:", *(f"  {line}" for line in words)]
        options = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.items())
        body += [html.heading(run, 3), html.items(words), html.paragraph(options, "note")]
        body += [_table(part, numbers, against) for against in (NOTHING, setting["control"], UNTUNED)]
        if courses is not None:
            here = courses[(courses.run == run) & (courses[list(SETTING)] == pd.Series(setting)).all(axis=1)]
            path = save(_course(here), _picture(folder, "course", run, setting))
            body.append(html.figure(path, "The course of training, by fewer samples than the tables"))
        strips = _picture(folder, "tuned", run, setting)
        if strips.is_file():
            body.append(html.figure(strips, f"The same seeds; rows: {', '.join(_tunings(part))}"))
            printed.append(f"  picture: {strips}")
    return body, printed


def verdicts(part: pd.DataFrame, numbers: Numbers, control: str) -> list[str]:
    """A sentence for each tuning: what its weight is for, and whether it does that against the control."""
    lines = []
    for name in _tunings(part):
        weight = float(part[part.tuning == name].weight_real.iloc[0])
        if name in (UNTUNED, control) or weight == 1:
            continue
        metric, sign = ("frechet_distance", -1) if 1 / STRONG < weight < STRONG else ("recall", 1)
        metric = "precision" if weight >= STRONG else metric
        told = [
            f"{space} {_verdict(row, sign)}, {with_interval(row)}"
            for space in part.space.unique()
            if (row := numbers.get((name, metric, space, control))) is not None
        ]
        if told:
            way = "higher" if sign > 0 else "lower"
            lines.append(f"{name} (weight {weight:g}), {metric} {way} than that of {control}: {'; '.join(told)}")
    return lines


def _verdict(difference: "pd.Series[float]", sign: int) -> str:
    if difference.low * difference.high <= 0:
        return "not decided"
    return "holds" if sign * difference.value > 0 else "the opposite"


def _tunings(part: pd.DataFrame) -> list[str]:
    return in_order(part.tuning.unique(), part.control.iloc[0])


def in_order(tunings: Iterable[str], control: str) -> list[str]:
    """The untuned generator, the control, the others by name."""
    return [UNTUNED, control, *sorted(set(tunings) - {UNTUNED, control})]


def _table(part: pd.DataFrame, numbers: Numbers, against: str) -> str:
    columns = list(dict.fromkeys(zip(part.metric, part.space, strict=True)))
    rows = []
    for name in _tunings(part):
        cells = [numbers.get((name, *at, against)) for at in columns]
        if any(cell is not None for cell in cells):
            rows.append([name, *("-" if cell is None else with_interval(cell) for cell in cells)])
    if not rows:
        return ""
    title = "tuning" if against == NOTHING else f"less {against}"
    return html.table([title, *(f"{metric}, {space}" for metric, space in columns)], rows)


def _course(course: pd.DataFrame) -> Figure:
    """A panel for every quantity that is told of every epoch, a line for every tuning."""
    shown = [name for name in course.quantity.unique() if " in " in name or name == "tried_for_one"]
    tunings = [name for name in _tunings(course) if name != UNTUNED]
    figure = Figure(figsize=(9, 3 * math.ceil(len(shown) / 2)), layout="constrained")
    for index, quantity in enumerate(shown):
        axis = figure.add_subplot(math.ceil(len(shown) / 2), 2, index + 1)
        for i, tuning in enumerate(tunings):
            line = course[(course.tuning == tuning) & (course.quantity == quantity)]
            line = line.assign(at=line.images.astype(int)).sort_values("at")
            axis.plot(line["at"], line.value, color=COLOURS[i % len(COLOURS)], label=tuning, linewidth=1.5)
        axis.set_title("samples tried for one accepted" if quantity == "tried_for_one" else quantity, fontsize=8)
        axis.set_xlabel("images learned from", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if index == 0:
            axis.legend(fontsize=7)
    return figure


def _picture(folder: Path, kind: str, run: str, setting: Mapping[str, object]) -> Path:
    name = digest({key: str(value) for key, value in setting.items()})[:8]
    return folder / "figures" / f"{kind}-{slug(run)}-{name}.png"
