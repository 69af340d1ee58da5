"""Records as the first release wrote them (schema 2), read as those of today: renamed, with keys in columns."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ..core.protocols import Cell, Estimate, Record, Row, View

OLD = "schema 2, "
"""Before the names of inputs of a study: they are those of the first release, which no name of today equals."""
COLUMNS = {
    "compare": {"through": "space", "of": "subject"},
    "correlate": {"given": "covariates"},
    "detect": {"given": "covariates"},
    "detect_followed": {"given": "covariates"},
    "detect_gain": {"given": "covariates"},
    "edit": {"of": "signal"},
    "fine_tune": {"through": "space"},
    "interpolate": {"of": "measured_in", "rate": "lr"},
    "energy_curve": {"rate": "lr"},
    "perturb": {"through": "judge_space", "of": "samples_of"},
    "tradeoff": {"through": "judge_space"},
}
"""New names of columns, by table."""
METRICS = {"ink": "mean_intensity"}
METRIC_VERSION = "1"
"""Of every metric of the first release."""
QUANTITIES = {"departure": "max_end_distance"}
"""New names of quantities in the column of that name."""
TRAINER = {"rate": "lr", "most": "max_channels"}
"""New names of options in the setting `trainer`."""


def rename(text: str) -> str:
    """A label with the names of today: "pseudo_density(space=pixels)" for "pseudo_density(through=pixels)"."""
    for old, new in METRICS.items():
        text = re.sub(rf"(?<![\w-]){old}(?![\w-])", new, text)
    return text.replace("through=", "space=").replace(" through ", " in ").replace("recoded", "reencoded")


def upgraded(fields: Mapping[str, Any]) -> Record:
    """A record of today from the fields of one of schema 2."""
    study, table = fields["kind"] == "study", fields["metric"]
    new = COLUMNS.get(table, {})
    params = dict(fields["params"])
    columns = params.pop("columns").split(" ~ ") if study else ["name"]
    if study:
        params = {new.get(key, key): _renamed(key, value) for key, value in params.items()}
    rows = [
        Row(_keys(table, columns, key.split(" ~ ") if study else [key]), _estimate(**estimate))
        for key, estimate in fields["values"].items()
    ]
    views = {rename(name): _view(**view) for name, view in fields["views"].items()}
    name = rename(table)
    options = ", ".join(f"{key}={value}" for key, value in sorted(params.items()))
    cell = Cell(
        experiment=fields["experiment"],
        dataset=fields["dataset"],
        generator=fields["generator"],
        metric=name,
        label=(f"{name}({options})" if options else name) if study else rename(fields["label"]),
        seed=fields["seed"],
        n=fields["n"],
        params=params,
        views={} if study else views,
    )
    return Record(
        cell=cell,
        version=_version(table, fields["version"]),
        kind=fields["kind"],
        better=fields["better"],
        source=fields["source"],
        columns=[new.get(column, column) for column in columns],
        rows=rows,
        status=fields["status"],
        error=fields["error"],
        inputs={f"{OLD}{key}" if study else rename(key): value for key, value in fields["inputs"].items()},
        preprocessing={rename(key): text for key, text in fields["preprocessing"].items()},
        numerics=fields["numerics"],
    )


def _version(table: str, version: int) -> int:
    """`interpolate` counted 100 for its own version, and added that of the metric whose scores a record held."""
    return version // 100 if table == "interpolate" else version


def _keys(table: str, columns: list[str], keys: list[str]) -> tuple[str, ...]:
    parts = dict(zip(columns, keys, strict=True))
    return tuple(rename(QUANTITIES.get(key, key) if column == "quantity" else key) for column, key in parts.items())


def _renamed(name: str, value: Any) -> Any:
    """A setting's value; that of the trainer is a list of options in the order of their names."""
    value = rename(value) if isinstance(value, str) else value
    if name != "trainer":
        return value
    options = (option.split(" ", 1) for option in value.split(", "))
    return ", ".join(sorted(" ".join([TRAINER.get(option, option), *rest]) for option, *rest in options))


def _view(of: Any, through: str, n: Any, encode: Any) -> View:
    return View(of, "reencoded" if through == "recoded" else through, n, encode)


def _estimate(value: float | None, interval: list[float | None], n: int, missing: int) -> Estimate:
    low, high = (math.nan if bound is None else bound for bound in interval)
    return Estimate(math.nan if value is None else value, (low, high), n, missing)
