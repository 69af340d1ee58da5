"""A study carried out: each of its parts computed where no valid record exists, checked, and recorded."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from ..arrays.records import USED
from ..arrays.views import watched_view
from ..core.columns import RESERVED
from ..core.declarations import Study
from ..core.files import digest
from ..core.protocols import Estimate, Part, Record, Row, Scalar
from ..core.registry import METRICS, STUDIES, unknown
from ..evaluate import Question, StudyError, evaluate_or_load, numerics, view_digests, view_preprocessing, view_samples
from ..run import Run

READ, FAILED = "view ", "failed "
"""In the inputs of a study, before the words of a view that it read and before the label of a score that failed."""


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
    """A study that yields rows is one part, with all its options as the setting.

    It declares nothing of what it reads, so it depends on the generator, the data set and all that the run asks for.
    """
    asked = (run.scores, run.quality_signals, run.classes, run.covariates, run.set_metrics, run.n_real)
    return Part(
        rows=lambda: study.function(run, options),
        setting={name: _as_text(getattr(options, name)) for name in study.options},
        fingerprints={
            "generator": run.views.generator.fingerprint,
            "data": run.views.data.fingerprint,
            "run": digest(*asked),
        },
    )


def _recorded(study: Study, run: Run, part: Part) -> Record:
    table = _table(study, part)
    columns = study.tables[table]
    _check_setting(study.name, part.setting, columns)
    cell = run.part(table, part.setting, part.views)
    used = {f"{USED}{name}": str(METRICS[name].version) for name in sorted({*study.uses, *imported_metrics(study)})}

    def inputs() -> dict[str, str]:
        found = used | view_digests(cell, run.views) | dict(part.fingerprints)
        for other in part.cells:
            failed = " failed" if METRICS[other.metric].kind == "sample" and run.failed(other) else ""
            for view, content in view_digests(other, run.views).items():
                found[f"{other.label} {view}"] = f"{METRICS[other.metric].version} {content}{failed}"
        return found

    def compute() -> tuple[list[Row], dict[str, str]]:
        before = len(run.written)
        with METRICS.watched() as names, run.views.watched() as views:
            rows = checked(study.name, columns, part.rows())
        failed = [record for record in run.written[before:] if record.status == "failed"]
        noticed = {f"{FAILED}{record.cell.label}": str(record.error) for record in failed}
        if study.in_parts:  # what one part has read another may find in memory, so each declares what it depends on
            _check_declared(study, names - {name.removeprefix(USED) for name in used}, part)
            return rows, noticed
        noticed |= {f"{USED}{name}": str(METRICS[name].version) for name in names}
        return rows, noticed | {f"{READ}{words}": content for words, content in views.items()}

    def recheck(name: str) -> str | None:
        """What was noticed while computing, as it is today. What failed is tried again, as a metric alone would be."""
        if name.startswith(USED):
            metric = METRICS.get(name.removeprefix(USED))
            return str(metric.version) if metric else None
        try:
            return run.views.digest(*watched_view(name.removeprefix(READ))) if name.startswith(READ) else None
        except (ValueError, LookupError, FileNotFoundError):  # there is no such view any more
            return None

    def preprocessing() -> dict[str, str]:
        texts = view_preprocessing(cell, run.views)
        for other in part.cells:
            texts |= {f"{other.label} {view}": text for view, text in view_preprocessing(other, run.views).items()}
        return texts

    def samples() -> dict[str, dict[str, int]]:
        found = view_samples(cell, run.views)
        for other in part.cells:
            found |= {f"{other.label} {view}": counts for view, counts in view_samples(other, run.views).items()}
        return found

    def numbers() -> dict[str, str]:
        views = [view for other in (cell, *part.cells) for view in other.views.values()]
        return numerics(run.views.device, [run.views.dtype(view, run.seed, run.n) for view in views])

    question = Question(cell, study.version, columns, inputs, compute, preprocessing, numbers, recheck, samples=samples)
    return evaluate_or_load(question, run.views, run.folder, run.written)


def _check_declared(study: Study, names: set[str], part: Part) -> None:
    """Raises StudyError where a part has looked up metrics beyond those that it or its study names."""
    named = {name.removeprefix(USED) for name in part.fingerprints if name.startswith(USED)}
    beyond = sorted(names - named - {cell.metric for cell in part.cells})
    if beyond:
        raise StudyError(
            f"study {study.name!r}: a part uses {', '.join(beyond)} without saying so, and would stay valid when that "
            "changes; add the cell to the part, or the name to uses=(...) of the study"
        )


def _table(study: Study, part: Any) -> str:
    """The table of a part; where it names none, the only one that its study declares."""
    if not isinstance(part, Part):
        raise StudyError(f"study {study.name!r} yields {part!r}; it is annotated to yield parts")
    table = part.table or (next(iter(study.tables)) if len(study.tables) == 1 else "")
    if table not in study.tables:
        raise StudyError(
            f"study {study.name!r} yields a part of table {part.table!r}; it declares {', '.join(study.tables)}"
        )
    return table


def checked(study: str, columns: Sequence[str], rows: Iterable[Any]) -> list[Row]:
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


def _check_setting(study: str, setting: Mapping[str, Any], columns: Sequence[str]) -> None:
    names = [*RESERVED, *columns, *setting]
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"study {study!r}: the table has a column {name!r} already; give it another name")
    for name, value in setting.items():
        _check_scalar(study, name, value)


def _check_scalar(study: str, name: str, value: Any) -> None:
    if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
        raise StudyError(
            f"study {study!r}: {name}={value!r} is a {type(value).__name__}, which no column of a table can hold; "
            "write it as text, or yield a part for each value"
        )


def _as_text(value: Any) -> Any:
    """An option as a column shows it: lists and mappings as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    return ", ".join(str(_as_text(item)) for item in value) if isinstance(value, (list, tuple)) else value


def imported_metrics(study: Study) -> set[str]:
    """Names of the metrics whose functions the files of a study import, and may call directly.

    Its files: its own, and from there on those in folders of studies, or in the study's own package, that they import.
    """
    names = {id(metric.function): name for name, metric in METRICS.items()}
    found: set[str] = set()
    modules, visited = [study.function.__module__], set[str]()
    while modules:
        module = modules.pop()
        visited.add(module)
        for value in list(vars(sys.modules[module]).values()):
            whole = isinstance(value, ModuleType)
            found |= {names[id(item)] for item in (vars(value).values() if whole else [value]) if id(item) in names}
            owner = value.__name__ if whole else getattr(value, "__module__", None)
            if isinstance(owner, str) and owner in sys.modules and owner not in visited and _is_of(owner, study):
                modules.append(owner)
    return found


def _is_of(module: str, study: Study) -> bool:
    """Whether a module is part of studies: of ours, except this file, or of the package that the study comes from."""
    if module.startswith(f"{__package__}."):
        return module != __name__
    own, ours = (name.partition(".")[0] for name in (study.function.__module__, __name__))
    return own != ours and module.partition(".")[0] == own
