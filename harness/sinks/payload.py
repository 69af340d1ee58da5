"""What sinks get: the numbers of records by name, and command and options of a run without its user's folders."""

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.protocols import Estimate, Record
from ..core.registry import EXTRACTORS
from .protocol import Value

FOLDERS = re.compile(r"(?<![\w.:/-])(?:~\w*|\.{1,2})?/(?:[^/,\]}'\"=]+/)*(?=[^/\s,\]}'\"=])")
"""All but the last part of a path that starts at a root, a home or a dot."""
UNSAID = ("out", "store", "sink")
"""Options that say where results and arrays go."""


def numbers(records: Iterable[Record]) -> dict[str, Value]:
    """The numbers of metrics by name: "precision/value", "/low", "/high", "/n" and "/missing", and those of its floor.

    The name is the label of the metric, with that of the number where there are several. An end of an interval that is
    not known is left out. A metric or a study that failed has "/failed", the reason, and no numbers.
    """
    found: dict[str, Value] = {}
    for record in records:
        label = record.cell.label
        if record.status == "failed":
            found[f"{label}/failed"] = str(record.error)
            continue
        if record.kind == "study":
            continue
        floors = {row.keys: row.estimate for row in record.floor.rows} if record.floor else {}
        for keys, estimate in record.rows:
            name = label if keys[0] == label.partition("(")[0] else f"{label} {keys[0]}"
            found |= _estimate(f"{name}/", estimate) | {f"{name}/missing": estimate.missing}
            if keys in floors:
                found |= _estimate(f"{name}/floor_", floors[keys])
    return found


def _estimate(name: str, estimate: Estimate) -> dict[str, Value]:
    ends = dict(zip(("low", "high"), estimate.interval, strict=True))
    known = {f"{name}{end}": value for end, value in ends.items() if not math.isnan(value)}
    return {f"{name}value": estimate.value, **known, f"{name}n": estimate.n}


def counts(records: Sequence[Record]) -> dict[str, Value]:
    return {"records": len(records), "failed": sum(record.status == "failed" for record in records)}


def config_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run or a training as plain values, without those that say where things lie.

    Of feature spaces, all of which are there, those that differ from their defaults.
    """
    kept = {name: value for name, value in config.items() if name not in UNSAID}
    if "extractor" in kept:
        changed = {name: _changed(EXTRACTORS[name].options, options) for name, options in kept["extractor"].items()}
        kept["extractor"] = {name: options for name, options in changed.items() if options}
    return dict(private(kept))


def _changed(defaults: Mapping[str, Any], options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (options or {}).items() if value != defaults.get(name)}


def command_of(words: Sequence[str]) -> str:
    """What was typed, without the folders in which files lie and without what it says of sinks."""
    said = [word for word in words if not re.match(r"\+*sink[.=]", word)]
    return shlex.join(["assay", *map(private, said)])


def private(value: Any) -> Any:
    """A value with each file and folder by its own name alone: where it lies is nobody's business."""
    if isinstance(value, Mapping):
        return {str(key): private(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [private(item) for item in value]
    if isinstance(value, str):
        return FOLDERS.sub("", value)
    return json.loads(json.dumps(value, default=str))
