"""Records to a page: tables, then what each study has to say, in one self-contained HTML file."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from ..arrays.records import Entry, agreeing, entries, read_records
from ..arrays.subsets import SOURCES, in_words
from ..core.declarations import Study
from ..core.escapes import for_terminal, in_one_line
from ..core.files import WRITTEN, replace, require_inside
from ..core.protocols import Record
from ..core.registry import STUDIES, TABLES_OF_CELLS
from . import html
from .blocks import Block, Found, Heading, Table, Text, printed, sections
from .conditions import computed_with
from .networks import on_networks
from .numbers import ForReaders, Numbers
from .paper.files import described, write_paper
from .tables import MANY, add_run, number_name, study_tables, tables, write_tables
from .typeset import compact, estimate

FEW = 24
"""Scores that are still printed one by one."""
PRINTED = 50
"""Rows of the leaderboard that are printed after a run."""
SHOWN = 1000
"""Rows of a table that are shown on the page."""


def report(folder: Path) -> str:
    """Write tables/, figures/, report.html and report.md from the records of a run. Returns what is worth printing.

    The folder may be anybody's: nothing is written outside of it, whatever its records say. A record that is damaged or
    edited is named and costs no other one. Where other processes write records to the folder, tables and page are those
    of the records that are there at the end. Raises ValueError where a link leads out of the folder, FileNotFoundError
    where there are no records.
    """
    return agreeing(folder, partial(_made, folder))


def _made(folder: Path) -> str:
    records = read_records(folder)
    faults = [entry for entry in entries(folder) if entry.why]
    found = tables(records)
    require_inside(folder, *WRITTEN)
    write_tables(found, folder)
    papers = _for_papers(folder, records)
    answered = study_tables([record for record in records if record.status == "ok"])  # _about tells of the others
    shown = {name: found[name] for name in TABLES_OF_CELLS if name in found} | answered
    named = Found({name: add_run(frame) for name, frame in shown.items()}, records, folder)
    numbers = Numbers(found, records)
    about = [*_about(records), *_faults(folder, faults)]
    blocks = [*about, *_leaderboard(numbers, records), *_studies(named), *_cells(numbers)]
    title = f"assay: {folder.name}"
    body = [text for block in blocks if (text := _rendered(block))]
    replace(folder / "report.html", html.page(title, body, sections(blocks), numbers.behind(folder)).encode())
    lines = [Heading(title, 1).markdown(), *(text for block in blocks if (text := block.markdown()))]
    replace(folder / "report.md", ("\n\n".join(lines) + "\n").encode())
    summary = [_printed(found), *printed(blocks), *papers, *(block.text for block in _faults(folder, faults))]
    return for_terminal("\n".join([*filter(None, summary), f"page: {folder / 'report.html'}"]))


def _for_papers(folder: Path, records: Sequence[Record]) -> list[str]:
    """Writes the tables for papers that are described for an experiment of this name; returns what is said of them."""
    if not described(folder).is_file():
        return []
    try:
        written = write_paper(folder, records, described(folder))
    except (OSError, ValueError):
        raise
    except Exception as failure:  # as for the pages of studies
        return [_unmade("the tables for papers", failure)]
    return [f"for papers: {', '.join(map(str, written.paths))}" if written.paths else "", *written.refused]


def _about(records: Sequence[Record]) -> Iterator[Block]:
    cells = [record.cell for record in records]
    failed = [record for record in records if record.status == "failed"]
    generators = ", ".join(sorted({cell.generator for cell in cells}))
    datasets = ", ".join(sorted({cell.dataset for cell in cells}))
    n = ", ".join(f"{n:,}" for n in sorted({cell.n for cell in cells}))
    yield Text(
        f"{generators} on {datasets}; {n} generated samples each; {len(records)} records, {len(failed)} failed. "
        f"Computed with {computed_with(records)}. "
        "Intervals are 95 %. Every number is in tables/*.csv, with its interval."
    )
    if lines := samples_used(records):
        yield Text(f"Samples: {'; '.join(lines)}.")
    for record in failed[:SHOWN]:
        yield Text(f"failed: {record.cell.generator} {record.cell.label}: {record.error}", "failed")
    if len(failed) > SHOWN:
        yield Text(f"and {len(failed) - SHOWN:,} more, in tables/metrics.csv", "failed")


def _faults(folder: Path, faults: Sequence[Entry]) -> Iterator[Text]:
    """What is wrong with single records, each named."""
    for entry in faults[:SHOWN]:
        where = entry.where.removeprefix(f"{folder}/")
        yield Text(f"{where}: {entry.why if entry.record else f'damaged, and left out: {entry.why}'}", "failed")
    if len(faults) > SHOWN:
        yield Text(f"and {len(faults) - SHOWN:,} more, which `assay check` names", "failed")


def samples_used(records: Sequence[Record]) -> list[str]:
    """How many samples of each source were found and used, in words, each once."""
    by_source: dict[str, dict[str, None]] = {}
    for record in records:
        for name, counts in record.samples.items():
            view = record.cell.views.get(name)
            if view is not None:
                by_source.setdefault(SOURCES[view.source], {})[in_words(counts)] = None
    return [f"{source}: {' / '.join(words)}" for source, words in by_source.items()]


def _studies(found: Found) -> Iterator[Block]:
    """What each study has to say. Where it has no page, or is not declared here, its tables as they are."""
    shown = set(TABLES_OF_CELLS)
    for _, study in sorted(STUDIES.items()):
        filled = [table for table in study.tables if table in found.tables]
        shown |= set(filled)
        if filled:
            yield from _introduced(study)
            columns = (found.tables[table][["generator", "dataset"]] for table in filled)
            yield Text(on_networks(pd.concat(columns).drop_duplicates().itertuples(index=False, name=None)))
            yield from _paged(study, found, filled)
    for table in sorted(found.tables.keys() - shown):
        yield Heading(table.replace("_", " "), 2)
        yield from _plain(found, [table])


def _paged(study: Study, found: Found, filled: Sequence[str]) -> Sequence[Block]:
    """The page of a study; where it cannot be made of what there is, the reason and its tables as they are."""
    if study.page is None:
        return list(_plain(found, filled))
    try:
        return list(study.page(found))
    except Exception as failure:  # of records that lack parts, or of another release: the rest of the page stands
        return [Text(_unmade(f"the page of {study.name}", failure), "failed"), *_plain(found, filled)]


def _rendered(block: Block) -> str:
    try:
        return block.html()
    except OSError:
        raise
    except Exception as failure:
        return html.paragraph(_unmade(f"a {type(block).__name__.lower()}", failure), "failed")


def _unmade(what: str, failure: Exception) -> str:
    return f"{what} cannot be made of these records ({type(failure).__name__}: {in_one_line(str(failure))})"


def _introduced(study: Study) -> Iterator[Block]:
    """The question that the file of a study begins with, else its name; then the prose of the study's docstring."""
    question, mark, _ = (inspect.getdoc(sys.modules[study.function.__module__]) or "").partition("?")
    yield Heading(question + mark if mark and "\n" not in question else study.name.replace("_", " "), 2)
    for paragraph in (inspect.getdoc(study.function) or "").partition("\nRaises ")[0].split("\n\n"):
        if "   " not in paragraph.strip():  # a list, for those who read the code
            yield Text(" ".join(paragraph.split()).replace("`", ""), "note")


def _plain(found: Found, names: Sequence[str]) -> Iterator[Block]:
    for name in names:
        caption, text = compact(found.tables[name].drop(columns=["run"]))
        yield Text(caption, "note")
        yield Table(list(text.columns), text.values.tolist())


def _pivot(board: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Generators down, set metrics across."""
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}
    names = {number_name(row): arrow[row.better] for row in board.itertuples()}
    cells: dict[str, dict[str, str]] = {}
    for row in add_run(board).itertuples():
        ranked = estimate(row) + (f" [{row.rank}]" if row.rank else "")
        cells.setdefault(row.run, {})[number_name(row)] = ranked
    rows = [[run, *(of.get(name, "-") for name in names)] for run, of in cells.items()]
    return ["generator", *(name + direction for name, direction in names.items())], rows


def _leaderboard(numbers: Numbers, records: Sequence[Record]) -> Iterator[Block]:
    if "leaderboard" in numbers.tables:
        yield Heading("Leaderboard", 2)
        columns, rows = _pivot(numbers.tables["leaderboard"])
        yield numbers.leaderboard(columns, rows[:SHOWN], SHOWN)
        if len(rows) > SHOWN:
            yield Text(f"The first {SHOWN:,} of {len(rows):,} rows; all are in tables/leaderboard.csv.", "note")
        note = "In brackets the rank: 1 + the number of generators whose whole interval is better; ties share a rank."
        floors = [record.floor for record in records if record.floor is not None]
        if sides := sorted({floor.samples for floor in floors if floor.rows}):
            note += f' Behind "real:" the value of real samples in place of generated ones: {"; ".join(sides)}.'
        yield ForReaders(Text(note, "note"), Text(numbers.note(sides), "note"))
        for why in sorted({floor.error for floor in floors if floor.error}):
            yield Text(f"No value of real samples in place of generated ones: {why}.", "note")


def _printed(found: dict[str, pd.DataFrame]) -> str:
    """The leaderboard, and the means of per-sample scores where they are few, as text."""
    blocks = []
    if "leaderboard" in found:
        columns, rows = _pivot(found["leaderboard"])
        if len(rows) == 1:  # one generator reads better downwards
            columns, rows = ["metric", rows[0][0]], [list(pair) for pair in zip(columns[1:], rows[0][1:], strict=True)]
        blocks.append(_aligned(columns, rows[:PRINTED]))
        if len(rows) > PRINTED:
            blocks.append(f"the first {PRINTED} of {len(rows):,} rows; all are in tables/leaderboard.csv")
    scores = add_run(found["metrics"][found["metrics"].kind == "sample"]) if "metrics" in found else pd.DataFrame()
    if 0 < len(scores) <= FEW:
        rows = [[number_name(row), row.run, estimate(row)] for row in scores.itertuples()]
        blocks.append(_aligned(["mean score", "generator", "value"], rows))
    return "\n".join(blocks)


def _aligned(columns: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[j]) for row in [columns, *rows]) for j in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def _cells(numbers: Numbers) -> Iterator[Block]:
    if "metrics" in numbers.tables:
        yield Heading("Every cell", 2)
        yield numbers.cells(SHOWN)
        total = len(numbers.tables["metrics"])
        if total > SHOWN:
            rest = f"The first {SHOWN:,} of {total:,} numbers; all are in tables/metrics.csv"
            yield Text(rest + (" and tables/metrics.parquet." if total > MANY else "."), "note")
