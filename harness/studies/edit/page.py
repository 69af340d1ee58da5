"""What `edit` found: whether a score has one maximum along edits, goes with quality, and knows where to stop."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ...core.files import digest
from ...core.protocols import Record
from ...report import html
from ...report.figures import save, slug
from ...report.tables import add_run, run_name
from ...report.typeset import number, with_interval
from ...run import Run

SETTING = ("space", "attribute", "reach", "steps", "edits")
"""What all records of the same edits have in common, by name."""
ITSELF = "itself"
"""What a number is of that compares a score with nothing else."""
WALKED = "minus the way walked"
"""The baseline among the scores: how near an edit still is to the sample that it began with."""
SHAPE = ("one maximum", "maximum away by", "fall to the ends")
AGREEMENT, BEYOND = "agreement", "agreement beyond the way walked"
CHANGE = "change where it stops"
GAIN, OVER_NORM = "gain of stopping", "gain of stopping over the norm"
NORM = "negative_norm"
NOTE = (
    "Samples moved both ways along the direction in which a linear model of the attribute rises; distances in standard "
    "deviations of the latents along it, falls and gains in those of samples. Agreement: rank correlation of a score "
    "with a signal of quality along an edit, mean over edits. Walks stop before the score has fallen too far, so that "
    "the mean change of the attribute is that of half the way. Gain of stopping, change where it stops: quality of the "
    "samples, and change of the attribute, less what they would be if as many walks stopped as early in the order of "
    "chance. A gain is one where the change is not less. "
    "The paper (arXiv:2407.15171) prints scores above a few edited faces; its directions are not published."
)

Numbers = Mapping[tuple[str, str, str], "pd.Series[float]"]
"""Rows of the table by score, quantity, and what it is of."""


def draw_frames(
    study: Run, setting: Mapping[str, object], frames: Callable[[], Tensor], scores: Callable[[], tuple[str, Tensor]]
) -> None:
    """A row for each edit: its images [P, T, C, H, W], the score [P, T] printed above each."""
    images, (name, values) = frames(), scores()
    rows, columns = values.shape
    figure = Figure(figsize=(0.62 * columns, 0.85 * rows + 0.3))
    figure.suptitle(name, fontsize=8)
    for i in range(rows):
        for j in range(columns):
            axis = figure.add_subplot(rows, columns, i * columns + j + 1)
            axis.imshow(images[i, j].permute(1, 2, 0).numpy().squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(number(float(values[i, j])), fontsize=6, pad=2)
            axis.axis("off")
    name_of_run = run_name(study.generator, study.dataset, study.seed, study.n)
    save(figure, _picture(study.folder, "edit", run, setting))


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = [html.heading("How far may an edit go?"), html.paragraph(NOTE, "note")]
    printed: list[str] = []
    body.append(html.paragraph("In how many cases (generator, space, attribute and signal) stopping by a score gains"))
    body.append(html.table(COUNTED, counts(found["edit"])))
    printed += [f"{score}: stopping by it is better in {b} of {n} cases, worse in {w}; over the norm {c} and {v}"
                for score, n, b, w, c, v in counts(found["edit"])]  # fmt: skip
    courses = add_run(found["edit_course"]) if "edit_course" in found else None
    for (run, *values), part in add_run(found["edit"]).groupby(["run", *SETTING], sort=False):
        setting = dict(zip(SETTING, values, strict=True))
        numbers = {(r.score, r.quantity, r.of): r for _, r in part.iterrows() if r.value == r.value}
        title = f"{run}, space {setting['space']}, along {setting['attribute']}"
        words = verdicts(part, numbers, str(setting["attribute"]))
        printed += [f"Edited, {title}:", *(f"  {line}" for line in words)]
        body += [html.heading(title, 3), html.items(words), *_tables(part, numbers)]
        if courses is not None:
            here = courses[(courses.run == run) & (courses[list(SETTING)] == pd.Series(setting)).all(axis=1)]
            caption = "Mean over edits, in standard deviations of samples, less the value of the sample itself"
            body.append(html.figure(save(_course(here), _picture(folder, "edit-course", run, setting)), caption))
        path = _picture(folder, "edit", run, setting)
        if path.is_file():
            body.append(html.figure(path, "Edits of the first samples, the sample itself in the middle"))
            printed.append(f"  picture: {path}")
    return body, printed


COUNTED = ("score", "cases", "better", "worse", "better than by the norm", "worse than by the norm")


def counts(table: pd.DataFrame) -> list[list[str]]:
    """Rows of COUNTED: how many gains of stopping are clear of 0. Where codes come from the prior is no other score."""
    names = table.score.str.replace(r"(, )?encode=prior", "", regex=True).str.removesuffix("()")
    rows = []
    for score, one in table.groupby(names):
        gains, over = (one[one.quantity == quantity] for quantity in (GAIN, OVER_NORM))
        if len(gains):
            clear = [int(sum(each)) for part in (gains, over) for each in (part.low > 0, part.high < 0)]
            rows.append([str(score), str(len(gains)), *map(str, clear)])
    return rows


def verdicts(part: pd.DataFrame, numbers: Numbers, attribute: str) -> list[str]:
    """Whether the edit works, then of each score what the paper says of its own."""
    lines = []
    works = numbers.get((attribute, "goes with the edit", ITSELF))
    if works is not None:
        fit = numbers[attribute, "linear fit", ITSELF]
        lines.append(
            f"the edit moves {attribute}: rank correlation {with_interval(works)}; a linear model of it in the latents "
            f"explains {number(fit.value)} of its variance"
        )
    for score in _scores(part, attribute):
        shape = [numbers.get((score, quantity, ITSELF)) for quantity in SHAPE]
        if score == WALKED or any(cell is None for cell in shape):
            continue
        top, away, fall = (with_interval(cell) for cell in shape if cell is not None)
        told = f"{score}: one maximum in {top} of edits, {away} from the sample; falls by {fall} to the ends"
        for quantity, words in ((GAIN, "stopping by it"), (OVER_NORM, "over the norm")):
            gains = {signal: numbers[at] for signal in _signals(part) if (at := (score, quantity, signal)) in numbers}
            decided = [
                f"{_verdict(gain)} by {signal} {with_interval(gain)}"
                for signal, gain in gains.items()
                if _verdict(gain)
            ]
            if gains:
                told += f"; {words}: {', '.join(decided) or 'not decided'}"
        if (change := numbers.get((score, CHANGE, ITSELF))) is not None:
            told += f"; change there, over that by chance, {with_interval(change)}"
        lines.append(told)
    return lines


def _verdict(gain: "pd.Series[float]") -> str:
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else ""


def _scores(part: pd.DataFrame, attribute: str) -> list[str]:
    return [score for score in part.score.unique() if score != attribute or (part.score == score).sum() > 2]


def _signals(part: pd.DataFrame) -> list[str]:
    return sorted(set(part.of) - {ITSELF})


def _tables(part: pd.DataFrame, numbers: Numbers) -> list[str]:
    scores, signals = list(part.score.unique()), _signals(part)
    columns = [(quantity, ITSELF) for quantity in (*SHAPE, CHANGE)]
    columns += [(quantity, signal) for quantity in (AGREEMENT, BEYOND, GAIN, OVER_NORM) for signal in signals]
    rows = [[score, *(_cell(numbers.get((score, *column))) for column in columns)] for score in scores]
    titles = [quantity if of == ITSELF else f"{quantity}, {of}" for quantity, of in columns]
    return [html.table(["score", *titles], [row for row in rows if set(row[1:]) != {"-"}])]


def _cell(row: "pd.Series[float] | None") -> str:
    return "-" if row is None else with_interval(row)


def _course(course: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(8, 4))
    axis = figure.subplots()
    for i, (score, one) in enumerate(course.groupby("score", sort=False)):
        line = one.assign(at_number=one["at"].astype(float)).sort_values("at_number")
        axis.plot(line.at_number, line.value, ("-", "--", ":")[i // 10 % 3], label=score, linewidth=1.3)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xlabel("standard deviations along the direction", fontsize=8)
    axis.set_ylabel("change, standard deviations of samples", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _picture(folder: Path, kind: str, run: str, setting: Mapping[str, object]) -> Path:
    name = digest({key: str(value) for key, value in setting.items()})[:8]
    return folder / "figures" / f"{kind}-{slug(run)}-{name}.png"
