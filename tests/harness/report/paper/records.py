"""Records, and a reader of LaTeX tables, for the tests of tables for papers."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.harness.arrays.records import write_record
from assay.harness.core.protocols import Cell, Estimate, Record, Row

METRIC = Record(
    cell=Cell("study", "digits", "vae", "precision", "precision", 0, 100), version=1, kind="set", better="higher",
    source="not published", columns=("name",), rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 100))], status="ok",
    error=None, inputs={}, numerics={"assay": "1", "torch": "2"},
)  # fmt: skip
STUDY = replace(METRIC, kind="study", better="neither", columns=("score", "signal"))


def metric(generator: str, value: float, low: float, high: float, better: Any = "higher", **cell: Any) -> Record:
    """The record of a set metric."""
    name = cell.setdefault("metric", "precision")
    cell.setdefault("label", name)
    rows = [Row((name,), Estimate(value, (low, high), 100))]
    return replace(METRIC, cell=replace(METRIC.cell, generator=generator, **cell), rows=rows, better=better)


def failed(record: Record, why: str) -> Record:
    return replace(record, status="failed", error=why, rows=[])


def study(rows: dict[tuple[str, str], tuple[float, float, float]], name: str = "things", **cell: Any) -> Record:
    """The record of a study with the columns score and signal."""
    found = [Row(keys, Estimate(value, (low, high), 100)) for keys, (value, low, high) in rows.items()]
    return replace(STUDY, cell=replace(STUDY.cell, metric=name, label=name, **cell), rows=found)


def written(folder: Path, *records: Record) -> Path:
    for record in records:
        write_record(folder, record)
    return folder


def body(text: str) -> list[list[str]]:
    """The cells of a table, of its titles and of its rows, each as often as it spans columns.

    Raises AssertionError for what LaTeX would not read: braces or $ that do not match, a row with another number of
    cells than the table has columns, vertical lines, or rules that booktabs does not have.
    """
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    whole = "\n".join(lines)
    _balanced(whole)
    (begin,) = [i for i, line in enumerate(lines) if r"\begin{tabular}" in line]
    (end,) = [i for i, line in enumerate(lines) if line.startswith(r"\end{tabular}")]
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lcr]+)\}", lines[begin])
    assert [line for line in lines[begin:end] if line in (r"\toprule", r"\bottomrule")] == [r"\toprule", r"\bottomrule"]
    assert r"\hline" not in whole
    found = []
    for line in lines[begin + 1 : end]:
        if re.fullmatch(r"\\(toprule|midrule|bottomrule|addlinespace)|(\\cmidrule\(lr\)\{\d+-\d+\} ?)*", line):
            continue
        assert line.endswith(r" \\"), line
        assert not line.startswith(("[", "*")), line
        cells = []
        for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\")):
            cell = cell.strip()
            _balanced(cell)
            wide = re.fullmatch(r"\\multicolumn\{(\d+)\}\{c\}\{(.*)\}", cell)
            cells += [wide[2]] * int(wide[1]) if wide else [cell]
        assert len(cells) == len(columns), line
        found.append(cells)
    return found


def _balanced(text: str) -> None:
    depth = 0
    plain = re.sub(r"\\[\\{}$%&#_]", "", text)
    for letter in plain:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0, text
    assert depth == 0, text
    assert plain.count("$") % 2 == 0, text


def plain(cell: str) -> str:
    """A cell without what sets it: $\\mathbf{0.90}{\\scriptstyle\\,\\pm\\,0.05}$ is "*0.90* ± 0.05"."""
    cell = re.sub(r"\\mathbf\{([^{}]*)\}", r"*\1*", cell).replace("$", "")
    cell = re.sub(r"\{\\scriptstyle\\[,;](.*?)\}(?=$|\^)", r" \1", cell)
    return cell.replace(r"\pm\,", "± ").replace(r"\pm", "±")
