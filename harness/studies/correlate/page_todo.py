"""What `correlate` found: the verdict in words, the correlations with intervals, and how the scores agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...core.protocols import Record
from ...report import html
from ...report.figures import BLUE, GREY, save, slug
from ...report.tables import add_run
from ...report.typeset import number, with_interval

RAW = "nothing"


def page(records: Sequence[Record], found: Mapping[str, pd.DataFrame], folder: Path) -> tuple[list[str], list[str]]:
    """HTML blocks, and the lines to print."""
    table = add_run(found["correlate"])
    conditions = sorted(table.given.unique(), key=lambda given: (given != RAW, len(given)))
    raw, partial = table[table.given == RAW], table[table.given == conditions[-1]]
    shared = _shared_spaces(records)
    words = _verdict(partial, shared, conditions[-1])
    body = [
        html.heading("Which score tells good samples from bad ones?"),
        html.paragraph(words[0]),
        html.items(words[1:]),
        _verdict_table(partial, shared),
        html.paragraph(
            f"For how many of the {partial.run.nunique()} runs the interval of the partial correlation "
            "is above zero (rises) or below (falls), and the median correlation. Spearman correlations over samples, "
            f"signs turned so that more is better on both sides; {int(table.resamples.iloc[0]):,} bootstrap resamples; "
            f"{conditions[-1]} held fixed by ranks, the class by indicators. A score without any information rises "
            "with one signal in one run once in 40 times. † the score reads the same feature space as the "
            "signal, so the two are not independent, and the words above leave that signal out. A name shows what "
            "differs from the metric's defaults, which `assay list metrics` tells.",
            "note",
        ),
    ]
    for run in table.run.unique():
        one_raw, one_partial = raw[raw.run == run], partial[partial.run == run]
        path = folder / "figures" / f"correlate-{slug(run)}.png"
        save(_dots(one_raw, one_partial), path)
        body += [
            html.heading(run, 3),
            html.figure(path, f"{run}: raw (grey) and partial (blue) correlation with each signal"),
            _side_by_side(one_raw, one_partial, shared),
        ]
    if "agreement" in found:
        body.append(html.heading("How the scores agree with each other"))
        for run, part in add_run(found["agreement"]).groupby("run"):
            path = folder / "figures" / f"agreement-{slug(str(run))}.png"
            save(_heat_map(part), path)
            body.append(html.figure(path, f"{run}: Spearman correlation between scores and signals"))
    return body, words


def _shared_spaces(records: Sequence[Record]) -> set[tuple[str, str]]:
    """Pairs (score, signal) that read real samples through the same extractor."""
    spaces = {
        record.label: {
            v.space for v in record.views.values() if v.source != "fake" and not v.space.startswith("latent")
        }
        for record in records
    }
    return {(a, b) for a in spaces for b in spaces if spaces[a] & spaces[b]}


def _verdict(partial: pd.DataFrame, shared: set[tuple[str, str]], held: str) -> list[str]:
    """What the scores say about quality beyond what is held fixed: a sentence, then a line for each answer."""
    answers: dict[str, list[str]] = {
        "rise with every independent signal, in every run: information about quality beyond the baselines": [],
        "rise with some signals, in every run, and never fall": [],
        "rise with some signals or in some runs and fall in others": [],
        "fall with some signals and never rise": [],
        "rise with no signal in every run, and never fall: nothing that the intervals can tell from chance": [],
        "undefined, because they are themselves held fixed": [],
    }
    every, some, mixed, falling, nothing, undefined = answers.values()
    for score, part in partial.groupby("score"):
        own = part[[(score, signal) not in shared for signal in part.signal]]
        own = own[own.value.notna()]
        rises = own.assign(up=own.low > 0).groupby("signal").up.all()
        up, down = bool((own.low > 0).any()), bool((own.high < 0).any())
        if own.value.isna().all():
            undefined.append(score)
        elif rises.all():
            every.append(score)
        elif down:
            (mixed if up else falling).append(score)
        else:
            (some if rises.any() else nothing).append(score)
    said = [f"{', '.join(scores)}: {answer}." for answer, scores in answers.items() if scores]
    runs, signals = partial.run.nunique(), partial.signal.nunique()
    return [f"With {held} held fixed, over {runs} runs and {signals} signals of quality:", *said]


def _verdict_table(partial: pd.DataFrame, shared: set[tuple[str, str]]) -> str:
    signals, scores = list(partial.signal.unique()), list(partial.score.unique())
    rows, medians = [], []
    for score in scores:
        cells, values = [score], []
        for signal in signals:
            part = partial[(partial.score == score) & (partial.signal == signal)]
            up, down = int((part.low > 0).sum()), int((part.high < 0).sum())
            says = [f"{word} {count}" for word, count in (("rises", up), ("falls", down)) if count]
            values.append(float(part.value.median()))
            mark = "†" if (score, signal) in shared else ""
            cells.append(f"{', '.join(says) or 'no'} ({number(values[-1])}){mark}" if len(part.value.dropna()) else "-")
        rows.append(cells)
        medians.append(values)
    return html.table(["score", *signals], rows, lambda i, j: html.shade(medians[i][j - 1]) if j else "")


def _side_by_side(raw: pd.DataFrame, partial: pd.DataFrame, shared: set[tuple[str, str]]) -> str:
    signals, scores = list(raw.signal.unique()), list(raw.score.unique())
    cells = {
        (kind, row.score, row.signal): row
        for kind, frame in (("raw", raw), ("partial", partial))
        for _, row in frame.iterrows()
    }
    columns = [(kind, signal) for signal in signals for kind in ("raw", "partial")]
    rows = [
        [score, *(with_interval(cells[kind, score, s]) + ("†" if (score, s) in shared else "") for kind, s in columns)]
        for score in scores
    ]
    values = [[cells[kind, score, signal].value for kind, signal in columns] for score in scores]
    names = [f"{signal}, {kind}" for kind, signal in columns]
    return html.table(["score", *names], rows, lambda i, j: html.shade(values[i][j - 1]) if j else "")


def _dots(raw: pd.DataFrame, partial: pd.DataFrame) -> Figure:
    signals, scores = list(raw.signal.unique()), list(raw.score.unique())
    figure = Figure(figsize=(2.6 * len(signals) + 2.5, 0.26 * len(scores) + 0.9))
    axes = figure.subplots(1, len(signals), sharey=True, squeeze=False)[0]
    for axis, signal in zip(axes, signals, strict=True):
        for frame, colour, shift in ((raw, GREY, -0.14), (partial, BLUE, 0.14)):
            part = frame[frame.signal == signal].set_index("score").loc[scores]
            at = np.arange(len(scores)) + shift
            axis.hlines(at, part.low, part.high, color=colour, linewidth=2)
            axis.plot(part.value, at, "o", color=colour, markersize=3.5)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(signal, fontsize=9)
        axis.set_xlim(-1, 1)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(scores)), scores)
    axes[0].invert_yaxis()
    return figure


def _heat_map(agreement: pd.DataFrame) -> Figure:
    names = list(agreement.score.unique())
    matrix = agreement.pivot(index="score", columns="other", values="value").loc[names, names].to_numpy()
    matrix = np.where(np.isnan(matrix), matrix.T, matrix)
    figure = Figure(figsize=(0.33 * len(names) + 3, 0.33 * len(names) + 2))
    axis = figure.subplots()
    image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    for i, j in np.argwhere(~np.isnan(matrix)):
        colour = "white" if abs(matrix[i, j]) > 0.6 else "black"
        axis.text(j, i, f"{matrix[i, j]:.1f}".replace("0.", "."), ha="center", va="center", fontsize=5.5, color=colour)
    figure.colorbar(image, ax=axis, shrink=0.6)
    return figure
