"""What `interpolate` found: which of the paper's observations hold, tables, curves of energy and strips of frames."""

import math
from collections.abc import Callable, Mapping, Sequence
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

LINEAR, SLERP = "linear", "slerp"
SCHEMES = {"pixel": GREY, "feature": BLUE, "~pixel": ORANGE, "~feature": "#1a7f37"}
"""What is optimised, and its colour: the energy in pixels or in features, and (~) the same of equalised images."""
ROWS = (LINEAR, SLERP, *SCHEMES)
NOTHING = "nothing"
"""What a number that is no difference is compared with."""
SETTING = (
    *("space", "features", "judges", "power", "equalised_per", "equalised_to"),
    *("segments", "iterations", "lr", "sphere", "starts", "rounds", "pairs"),
)
"""What all records of a study of paths have in common, by name."""
FRAMES = 9
"""Frames of a path that a strip shows."""

Numbers = Mapping[tuple[str, str, str, str], "pd.Series[float]"]
"""Rows of the table, by row, quantity, what it is measured in, and against what."""


def draw_strips(study: Run, setting: Mapping[str, object], pairs: Sequence[Sequence[Tensor]]) -> None:
    """A picture per pair: a strip of frames, uint8 [N, C, H, W], for each of ROWS."""
    name_of_run = run_name(study.generator, study.dataset, study.seed, study.n)
    for pair, strips in enumerate(pairs):
        save_strips(strips, _picture(study.folder, f"strip-{pair:02}", run, setting))


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    body: list[str] = [html.heading("Paths of least energy between latents"), html.paragraph(NOTE, "note")]
    printed: list[str] = []
    curves = add_run(found["energy_curve"]) if "energy_curve" in found else None
    for (run, *values), part in add_run(found["interpolate"]).groupby(["run", *SETTING]):
        setting = dict(zip(SETTING, values, strict=True))
        numbers = {(r.row, r.quantity, r.of, r.against): r for _, r in part.iterrows() if r.value == r.value}
        title = f"{run}, space {setting['space']}, features {setting['features']}, rounds {setting['rounds']}"
        words = observations(numbers)
        printed += [f"Paths of least energy, {title}:", *words]
        options = "; ".join(f"{name.replace('_', ' ')} {value or 'none'}" for name, value in setting.items())
        body += [html.heading(title, 3), html.items(words), html.paragraph(options, "note"), *_tables(numbers)]
        if curves is not None:
            here = (curves.run == run) & (curves[list(SETTING)] == pd.Series(setting)).all(axis=1)
            path = save(_curves(curves[here]), _picture(folder, "energy", run, setting))
            body.append(html.figure(path, CURVES))
        strips = sorted((folder / "figures").glob(_picture(folder, "strip-*", run, setting).name))
        rows = ", ".join(ROWS)
        shown = [html.figure(path, f"pair {i + 1}, from the top: {rows}") for i, path in enumerate(strips)]
        body.append(html.details(f"{title}: frames of {len(strips)} pairs", shown))
    return body, printed


NOTE = (
    "Every number is a mean over pairs of ends, the same for all rows. Linear: a straight line, put back on the sphere "
    "where latents lie on one. The others minimise the energy in pixels or in features; ~: of images equalised to zero "
    "mean and unit variance before. Differences to the straight path and to the scheme without equalisation, paired, "
    "are in tables/interpolate.csv. The paper (Laine 2018) has no numbers to compare with. At first: by its procedure "
    "alone. All else is of the paths after the rounds, in which pairs that another row undercut went on from its path. "
    "They keep much of its look: equalised energies see neither brightness nor contrast. Rounds 0: the procedure alone."
)
CURVES = "Energy of each scheme in its own distance by the paper's procedure, over that of the straight path"


def observations(numbers: Numbers) -> list[str]:
    """What the paper saw by eye, each with what the numbers say; and whether the optimiser did its work."""
    claims = [
        _claim(numbers, "Energy in pixels flattens the contrast mid-path", "pixel", "contrast", LINEAR, -1),
        _claim(numbers, "Equalisation lessens the loss of contrast", "~pixel", "contrast", "pixel", 1),
        _claim(numbers, "Energy in features darkens the path", "feature", "brightness", LINEAR, -1),
        _stops(numbers),
    ]
    return [line for line in claims if line] + _own_columns(numbers)


def _claim(numbers: Numbers, claim: str, row: str, quantity: str, against: str, sign: int) -> str:
    """A sentence on whether the middle image's difference to another row has a sign; empty where there is none."""
    value = numbers.get((row, quantity, "middle", NOTHING))
    difference = numbers.get((row, quantity, "middle", against))
    if value is None or difference is None:
        return ""
    return f"{claim}: {_verdict(difference, sign)}. {_told(row, quantity, value, against, difference)}"


def _verdict(difference: "pd.Series[float]", sign: int) -> str:
    if sign * difference.value > 0 and difference.low * difference.high > 0:
        return "holds"
    return "does not hold, the opposite is seen" if difference.low * difference.high > 0 else "not decided"


def _told(row: str, quantity: str, value: "pd.Series[float]", against: str, difference: "pd.Series[float]") -> str:
    unit = "of that of the ends" if quantity == "contrast" else "above the mean of the ends (1 is white)"
    other = "the straight path" if against == LINEAR else against
    middle = f"Mid-path {quantity} of {row} is {with_interval(value)} {unit}"
    return f"{middle}; less that of {other}: {with_interval(difference)}."


def _stops(numbers: Numbers) -> str:
    """Equalisation stops the darkening: brighter than without, and no longer darker than the straight path."""
    row, plain = "~feature", "feature"
    names = ((row, NOTHING), (row, plain), (row, LINEAR), (plain, LINEAR))
    value, lifted, left, darkening = (numbers.get((who, "brightness", "middle", whom)) for who, whom in names)
    if value is None or lifted is None or left is None or darkening is None:
        return ""
    if not darkening.high < 0:
        verdict = "no darkening was found that it could stop"
    elif lifted.low > 0 and left.high < 0:
        verdict = "holds in part, it lessens the darkening but does not end it"
    else:
        verdict = _verdict(lifted, 1)
    return (
        f"Equalisation stops the darkening: {verdict}. {_told(row, 'brightness', value, plain, lifted)[:-1]}; "
        f"less that of the straight path: {with_interval(left)}."
    )


def _own_columns(numbers: Numbers) -> list[str]:
    """Whether each scheme has less of its own energy than all other rows: by the paper's procedure, and in the end."""

    def told(when: str) -> str:
        words = []
        for row in SCHEMES:
            share = numbers.get((row, f"least of all rows{when}", row, NOTHING))
            excess = numbers.get((row, f"largest excess over the least{when}", row, NOTHING))
            if share is not None and excess is not None:
                words.append(f"{row} in {share.value:.0%} of pairs (at most {excess.value:.2%} above the least)")
        return "; ".join(words)

    went_on = {row: numbers.get((row, "went on", row, NOTHING)) for row in SCHEMES}
    moved = [f"{row} {each.value:.0%}" for row, each in went_on.items() if each is not None and each.value > 0]
    lines = []
    if first := told(" at first"):
        lines.append(f"Least energy of all rows in their own distance, by the paper's procedure alone: {first}.")
    if moved:
        lines.append(
            f"After the pairs that another row undercut went on from its path ({', '.join(moved)} of pairs), so by "
            f"construction up to what is left: {told('')}."
        )
    return lines


def _tables(numbers: Numbers) -> list[str]:
    spaces = list(dict.fromkeys(of for _, quantity, of, _ in numbers if quantity == "energy ratio"))
    spaces.sort(key=[*("latent", *SCHEMES), *sorted(spaces)].index)
    starts = sorted({quantity for _, quantity, _, _ in numbers if quantity.startswith("energy ratio from")})
    scores = sorted({of for _, quantity, of, _ in numbers if quantity == "mean score"})
    sets = sorted({of for _, quantity, of, _ in numbers if quantity == "frames"})
    twice = ("improvement", "least of all rows", "largest excess over the least")
    own = (*(f"{name} at first" for name in twice), "went on", *twice, "gradient", *starts, "calls")
    shape = ("jensen gap", "speed variation", "straightness", "turning", "max_end_distance")
    look = [(quantity, of) for quantity in ("contrast", "brightness") for of in ("middle", "mean", "least")]
    look += sorted({("path PPL", of) for _, quantity, of, _ in numbers if quantity == "path PPL"})
    return [
        html.paragraph("Energy in each distance over that of the straight path (cross-energy matrix)"),
        _grid(numbers, [("energy ratio", of) for of in spaces], lambda value: 1 - value),
        html.paragraph(
            "The optimiser, each scheme in its own distance. At first: by the paper's procedure alone; then pairs that "
            "another row undercut went on from its path. Gradient: its norm over the energy, at the end"
        ),
        _grid(numbers, [(quantity, "") for quantity in own]),
        html.paragraph("Evenness and straightness in pixels and in features"),
        _grid(numbers, [(quantity, of) for of in ("pixel", "feature") for quantity in shape]),
        html.paragraph("What the images lose on the way, and how smooth they change"),
        _grid(numbers, look),
        html.paragraph("Scores of the frames between the ends, 8 bits deep: mean over a path and worst frame"),
        _grid(numbers, [(quantity, of) for of in scores for quantity in ("mean score", "worst score")]),
        html.paragraph("All frames between the ends of a row, 8 bits deep, against as many real samples (jackknife)"),
        _grid(numbers, [("frames", of) for of in sets]),
    ]


def _grid(
    numbers: Numbers, columns: Sequence[tuple[str, str]], sign: Callable[[float], float] = lambda value: math.nan
) -> str:
    """Rows of paths, columns (quantity, what it is measured in; empty: the distance that the row optimises)."""
    rows, values = [], []
    for row in ROWS:
        cells = [numbers.get((row, quantity, of or row, NOTHING)) for quantity, of in columns]
        if any(cell is not None for cell in cells):
            rows.append([row, *("-" if cell is None else with_interval(cell) for cell in cells)])
            values.append([math.nan, *(math.nan if cell is None else cell.value for cell in cells)])
    titles = [f"{quantity}, {of}" if of else quantity for quantity, of in columns]
    return html.table(["path", *titles], rows, lambda i, j: html.shade(sign(values[i][j])))


def _curves(curves: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(8, 3.4))
    axis = figure.subplots()
    for row, colour in SCHEMES.items():
        one = curves[curves.row == row]
        order = one.iteration.astype(int).argsort()
        at, one = one.iteration.astype(int).iloc[order], one.iloc[order]
        axis.plot(at, one.value, color=colour, label=row, linewidth=1.5)
        axis.fill_between(at, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_xlabel("iteration", fontsize=8)
    axis.set_ylabel("energy over the straight path's", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def _picture(folder: Path, kind: str, run: str, setting: Mapping[str, object]) -> Path:
    name = digest({key: str(value) for key, value in setting.items()})[:8]
    return folder / "figures" / f"{kind}-{slug(run)}-{setting['space']}-{name}.png"
