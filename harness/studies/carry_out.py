"""A study carried out: each of its parts computed where no valid record exists, checked, and recorded."""

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from ..arrays.views import watched_view
from ..core.protocols import Estimate, Part, Record, Row, Scalar
from ..core.registry import METRICS, STUDIES, Study, unknown
from ..evaluate import USED, Question, StudyError, evaluate_or_load, view_digests, view_preprocessing
from ..report.tables import RESERVED
from ..run import Run

SEEN = "view "
"""Before the words of a view, in the inputs of a study; the value is its digest."""


def carry_out(run: Run, name: str, **options: Any) -> list[Record]:
    """The records of a study with options of its own. Parts that have a valid record are not computed again.

    Raises ValueError for an unknown option, StudyError when the study yields what cannot be recorded.
    """
    study: Study = STUDIES[name]
    for option in options:
        if option not in study.options:
            raise ValueError(unknown(f"option of study {name}:", option, sorted(study.options)))
    chosen = study.make_options(**options)
    parts = study.function(run, chosen) if study.in_parts else [_whole(study, run, chosen)]
    return [_recorded(study, run, part) for part in parts]


def _whole(study: Study, run: Run, options: Any) -> Part:
    """A study that yields rows is one part, with all its options as the setting."""
    setting = {name: _as_text(value) for name, value in vars(options).items()}
    return Part(lambda: study.function(run, options), setting)


def _recorded(study: Study, run: Run, part: Part) -> Record:
    if (part.table and part.table not in study.tables) or (not part.table and len(study.tables) > 1):
        raise StudyError(
            f"study {study.name!r} yields a part of table {part.table!r}; it declares {list(study.tables)}"
        )
    table = part.table or next(iter(study.tables))
    columns = study.tables[table]
    _check_setting(study.name, part.setting, columns)
    cell = run.part(table, part.setting, part.views)
    used = {name: str(METRICS[name].version) for name in sorted({*study.uses, *imported_metrics(study)})}

    def inputs() -> dict[str, str]:
        found = {f"{USED}{name}": version for name, version in used.items()}
        found |= view_digests(cell, run.views) | dict(part.fingerprints)
        for other in part.cells:
            failed = " failed" if METRICS[other.metric].kind == "sample" and run.failed(other) else ""
            for view, digest in view_digests(other, run.views).items():
                found[f"{other.label} {view}"] = f"{METRICS[other.metric].version} {digest}{failed}"
        return found

    def compute() -> tuple[list[Row], dict[str, str]]:
        with METRICS.watched() as names, run.views.watched() as views:
            rows = checked(study.name, columns, part.rows())
        read = {f"{USED}{name}": str(METRICS[name].version) for name in names}
        return rows, read | {f"{SEEN}{words}": digest for words, digest in views.items()}

    def recheck(name: str) -> str | None:
        if name.startswith(USED):
            metric = METRICS.get(name.removeprefix(USED))
            return str(metric.version) if metric else None
        return watched_view(run.views, name.removeprefix(SEEN)) if name.startswith(SEEN) else None

    def preprocessing() -> dict[str, str]:
        texts = view_preprocessing(cell, run.views)
        for other in part.cells:
            texts |= {f"{other.label} {view}": text for view, text in view_preprocessing(other, run.views).items()}
        return texts

    question = Question(
        cell, study.version, "study", "neither", "", columns, inputs, compute, preprocessing, recheck
    )  # fmt: skip
    return evaluate_or_load(question, run.views, run.folder, run.written)


def checked(study: str, columns: tuple[str, ...], rows: Iterable[Any]) -> list[Row]:
    """Rows as they are recorded. Raises StudyError for one that no table could show."""
    found: dict[tuple[Scalar, ...], Estimate] = {}
    for row in rows:
        if not isinstance(row, tuple) or len(row) != 2 or not isinstance(row[1], Estimate):
            raise StudyError(f"study {study!r} yields {row!r}; a row is a pair of keys and an Estimate")
        keys, estimate = row
        if not isinstance(keys, tuple) or len(keys) != len(columns):
            raise StudyError(f"study {study!r}: a row has the keys {keys!r}; its columns are {', '.join(columns)}")
        for column, key in zip(columns, keys, strict=True):
            _check_scalar(study, column, key)
        if keys in found:
            raise StudyError(f"study {study!r} yields two rows with the keys {keys!r}")
        found[keys] = estimate
    return [Row(keys, estimate) for keys, estimate in found.items()]


def _check_setting(study: str, setting: Mapping[str, Any], columns: tuple[str, ...]) -> None:
    for name, value in setting.items():
        _check_scalar(study, name, value)
    twice = sorted(set(setting) & {*columns, *RESERVED} | set(columns) & set(RESERVED))
    if twice:
        raise StudyError(f"study {study!r}: the table has a column {twice[0]!r} already; give it another name")


def _check_scalar(study: str, name: str, value: Any) -> None:
    if not isinstance(value, (str, int, float, bool, type(None))):
        raise StudyError(
            f"study {study!r}: {name}={value!r} is a {type(value).__name__}, which no column of a table can hold; "
            "write it as text, or yield a part for each value"
        )


def _as_text(value: Any) -> Any:
    """An option as a column shows it: lists and mappings as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def imported_metrics(study: Study) -> set[str]:
    """Names of the metrics whose functions the files of a study import and may call directly."""
    names = {metric.function: name for name, metric in METRICS.items()}
    found: set[str] = set()
    modules, visited = [sys.modules[study.function.__module__]], set[str]()
    while modules:
        module = modules.pop()
        visited.add(module.__name__)
        for value in list(vars(module).values()):
            if callable(value) and value in names:
                found.add(names[value])
            owner = sys.modules.get(getattr(value, "__module__", "") or "")
            if isinstance(value, ModuleType):
                owner = value
                found |= {names[item] for item in vars(value).values() if callable(item) and item in names}
            if owner and owner.__name__ not in visited and _is_of_studies(owner.__name__):
                modules.append(owner)
    return found


def _is_of_studies(module: str) -> bool:
    return module.startswith(f"{__package__}.") and module != __name__
