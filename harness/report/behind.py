"""What lies behind a number of the page: the command that makes it again, its options, versions, device and cost."""

import csv
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..arrays.costs import FIELDS
from ..arrays.records import record_name
from ..arrays.subsets import in_words
from ..core.protocols import Cell, Record
from ..core.registry import METRICS
from .networks import training
from .typeset import formatted

Costs = Mapping[tuple[str, ...], Mapping[str, str]]
"""Rows of a file of costs, by data set, generator, label, seed and number of samples."""
DIGEST = re.compile(r"#[0-9a-f]{8}")
"""Behind the name of a file that a generator or a data set was opened with."""


def record_id(record: Record) -> str:
    """Where the page keeps what is behind the numbers of a record; the same in every report."""
    return f"record-{Path(record_name(record.cell)).stem}"


def behind(record: Record, costs: Costs) -> dict[str, Any]:
    """Of one record, for the page: a title, the numbers, the command, and lists of names and values by heading."""
    cell = record.cell
    numbers = {str(row.keys[0]): _number(row.estimate) for row in record.rows}
    floor = {f"{row.keys[0]}, real samples": _number(row.estimate) for row in record.floor.rows} if record.floor else {}
    if record.floor and record.floor.samples:
        floor["real samples"] = record.floor.samples
    cost = costs.get((cell.dataset, cell.generator, cell.label, str(cell.seed), str(cell.n)), {})
    about = {
        "generator": cell.generator, "data set": cell.dataset, "seed": str(cell.seed), "samples": f"{cell.n:,}",
        "experiment": cell.experiment, "source": record.source, "better": record.better,
    }  # fmt: skip
    called = command(record)
    if DIGEST.search(called):
        about["files"] = "NAME#digest in the command stands for the path of a file of that name and content"
    spent = {"seconds": cost.get("seconds", ""), "peak memory, MiB": cost.get("peak_memory_mib", "")}
    return {
        "title": f"{cell.label} of {cell.generator}",
        "command": called,
        "parts": {
            "Numbers": numbers | floor | ({"failed": record.error} if record.error else {}),
            "About": about,
            "Options": {name: str(value) for name, value in cell.params.items()},
            "Samples": {name: in_words(counts) for name, counts in record.samples.items()},
            "Preprocessing": dict(record.preprocessing),
            "Versions and device": {"metric": f"version {record.version}"} | dict(sorted(record.numerics.items())),
            "Cost": {name: value for name, value in spent.items() if value} or {"cost": "not known here"},
            "Digests of what was read": dict(sorted(record.inputs.items())),
        },
    }  # fmt: skip


def command(record: Record) -> str:
    """The call of `assay run` that makes the number again. A file is called by its name and digest, not its place."""
    cell = record.cell
    words = ["assay", "run", *_chosen("generator", cell.generator), *_chosen("dataset", cell.dataset)]
    words.append(f"metric={cell.metric}")
    options = dict(_options(cell.label)[1])
    options.pop("n_real", None)  # that of this metric alone: `_reals` tells it
    words += [f"{name}={options.pop(name)}" for name in ("space", "encode") if name in options]
    words += [f"metric.{cell.metric}.{name}={value}" for name, value in options.items()]
    if features := _features(record):
        words.append(f"features={features}")
    if reals := _reals(cell):
        words.append(f"n_real={reals}")
    return shlex.join([*words, f"seed={cell.seed}", f"n={cell.n}"])


def all_behind(records: Mapping[str, tuple[Record, Costs]]) -> dict[str, Any]:
    """What is behind the numbers of records, by their ids. What many have in common is there once, in `parts`."""
    parts, found = dict[str, int](), {}
    for name, (record, costs) in records.items():
        details = behind(record, costs)
        own = [(heading, json.dumps(part)) for heading, part in details["parts"].items() if part]
        details["parts"] = [[heading, parts.setdefault(part, len(parts))] for heading, part in own]
        found[name] = details
    return {"parts": [json.loads(part) for part in parts], "records": found}


def read_costs(folder: Path) -> Costs:
    """What the cells of a results folder cost, the last time that each was computed; nothing where nobody knows."""
    try:
        with folder.with_name(f"{folder.name}.costs.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if all(row.get(name) is not None for name in FIELDS)]
    except (OSError, ValueError):
        return {}
    return {tuple(row[name] for name in FIELDS[:5]): row for row in rows}


def without_space(label: str) -> str:
    """The label of a metric without the option that names the space it is read in: "precision(k=9)"."""
    name, options = _options(label)
    kept = [f"{option}={value}" for option, value in options if option != "space"]
    return f"{name}({', '.join(kept)})" if kept else name


def _chosen(group: str, label: str) -> Iterator[str]:
    name, options = _options(label)
    yield f"{group}={name}"
    if trained := training(label):
        options = [(option, trained.path if option == "path" else value) for option, value in options]
    yield from (f"{group}.{name}.{option}={value}" for option, value in options)


def _options(label: str) -> tuple[str, list[tuple[str, str]]]:
    """The name and the options of e.g. "vae(temperature=0.7, sizes=[1, 2])"; commas inside brackets part nothing."""
    name, bracket, rest = label.partition("(")
    if not bracket or not rest.endswith(")"):
        return label, []
    parts, depth = [""], 0
    for letter in rest[:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    pairs = (part.strip().partition("=") for part in parts)
    return name, [(option, value) for option, _, value in pairs if option]


def _reals(cell: Cell) -> int | None:
    """To how many real samples a run limited a metric that asks for all of them."""
    declared = METRICS[cell.metric].views if cell.metric in METRICS else {}
    for name, view in cell.views.items():
        asked = declared[name].n if name in declared else "all"
        if view.source == "real" and isinstance(view.n, int) and asked == "all":
            return view.n
    return None


def _features(record: Record) -> str:
    """The feature space that a run chose for the metrics that ask for "features"; "" where this one asks for none."""
    spaces = [
        record.preprocessing.get(name, "") for name, view in record.cell.views.items() if view.space == "features"
    ]
    return next((space.partition(":")[0] for space in spaces if space), "")


def _number(estimate: Any) -> str:
    text = f"{formatted(estimate.value, *estimate.interval)}, n {estimate.n:,}"
    return f"{text}, {estimate.missing:,} missing" if estimate.missing else text
