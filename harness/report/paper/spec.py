"""Tables for a paper as a YAML file describes them: which numbers stand where, under which titles."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ...core.protocols import Better
from ...core.registry import unknown
from .latex import fault

Spread = Literal["plus-minus", "brackets", "none"]
SPREADS: tuple[Spread, ...] = ("plus-minus", "brackets", "none")
SIZES = ("normalsize", "small", "footnotesize", "scriptsize")
DIRECTIONS = ("higher", "lower", "neither")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
LABEL = re.compile(r"[A-Za-z0-9:._-]*")
DIGITS = range(10)
OWN = ("title", "entries", "printed", "better", "digits", "compared")
"""Keys of a row or a column; any other is a column of the table, and the value that it must have."""


@dataclass(frozen=True)
class Entry:
    """A row or a column: what its numbers have in common, and how they are shown.

    titles: that of the outermost group first. where: columns of the table and the values that they must have, a list
    for any of several. printed: the same for the table of what papers print; None where they print nothing. better:
    the direction, where the table does not tell it. compared: whether its numbers may be the best ones.
    """

    titles: tuple[str, ...]
    where: Mapping[str, Any] = field(default_factory=dict)
    printed: Mapping[str, Any] | None = field(default_factory=dict)
    better: Better | None = None
    digits: int | None = None
    compared: bool = True


@dataclass(frozen=True)
class Spec:
    """One table. rows, columns: entries; or the name of a column, which stands for all its values in their order.

    table: "leaderboard", "metrics" or one of a study. heading: titles of the columns that name the rows. interval: how
    it is shown. scale: by what numbers are multiplied, e.g. 100. decided: whether numbers that are decided after Holm's
    correction are marked. papers: the name of a file in results/papers. wide: over both columns of a page. size: of the
    letters; a smaller one has less room between columns, too.
    """

    name: str
    table: str
    rows: str | Sequence[Entry]
    columns: str | Sequence[Entry]
    caption: str = ""
    label: str = ""
    note: str = ""
    heading: Sequence[str] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    papers: str = ""
    printed: Mapping[str, Any] = field(default_factory=dict)
    better: Better | None = None
    digits: int = 3
    scale: float = 1.0
    interval: Spread = "plus-minus"
    decided: bool = False
    wide: bool = False
    size: str = "normalsize"


def read_specs(path: Path) -> list[Spec]:
    """The tables that a file describes. Raises ValueError that names the table, the key and what it may be."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"{path} must have a name for each table, and below it what the table shows (docs/papers.md)")
    return [_spec(name, settings) for name, settings in found.items()]


def _spec(name: Any, settings: Any) -> Spec:
    if not NAME.fullmatch(str(name)):
        raise ValueError(f"{name!r} cannot be the name of a file; letters, digits, - and _ can")
    what = f"table {name}"
    if not isinstance(settings, Mapping):
        raise ValueError(f"{what} must say what it shows: table, rows and columns at least (docs/papers.md)")
    known = set(Spec.__dataclass_fields__) - {"name"}
    for key in settings:
        if key not in known:
            raise ValueError(f"{what}: {unknown('key', str(key), sorted(known))}")
    for key in ("table", "rows", "columns"):
        if not settings.get(key):
            raise ValueError(f"{what} has no {key}")
    options: dict[str, Any] = dict(settings) | {"name": str(name), "table": str(settings["table"])}
    for axis in ("rows", "columns"):
        if not isinstance(settings[axis], str):
            options[axis] = list(_entries(settings[axis], f"{what}, {axis}"))
    for key in ("caption", "note"):
        options[key] = _text(settings.get(key, ""), f"{what}, {key}")
    heading = settings.get("heading", ())
    options["heading"] = [_text(text, f"{what}, heading") for text in _listed(heading)]
    for key in ("where", "printed"):
        options[key] = _mapping(settings.get(key, {}), f"{what}, {key}")
    _check(settings, "better", DIRECTIONS, what)
    _check(settings, "digits", DIGITS, what)
    _check(settings, "interval", SPREADS, what)
    _check(settings, "size", SIZES, what)
    for key in ("decided", "wide"):
        _check(settings, key, (True, False), what)
    scale = settings.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < float("inf"):
        raise ValueError(f"{what}: scale={scale} must be a number above 0")
    if not LABEL.fullmatch(str(settings.get("label", ""))):
        raise ValueError(f"{what}: label={settings['label']} may have letters, digits, and : . _ -")
    if settings.get("papers") is not None and not NAME.fullmatch(str(settings["papers"])):
        raise ValueError(
            f"{what}: papers={settings['papers']} must be the name of a file in results/papers, without .csv"
        )
    return Spec(**options)


def _entries(entries: Any, what: str, outer: Entry = Entry(())) -> Iterator[Entry]:
    """The rows or columns of a list; one with `entries` is a group of these, which share what it says."""
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(f"{what} must be the name of a column, or a list of entries with a title each")
    for i, one in enumerate(entries):
        here = f"{what} {i + 1}"
        if not isinstance(one, Mapping) or not isinstance(one.get("title"), (str, int, float)):
            raise ValueError(f"{here} must be a mapping with a title")
        here = f"{here} ({one['title']})"
        _check(one, "better", DIRECTIONS, here)
        _check(one, "digits", DIGITS, here)
        _check(one, "compared", (True, False), here)
        entry = Entry(
            titles=(*outer.titles, _text(one["title"], here)),
            where={**outer.where, **{str(key): value for key, value in one.items() if key not in OWN}},
            printed=_printed(outer.printed, one.get("printed", {}), f"{here}, printed"),
            better=one.get("better", outer.better),
            digits=one.get("digits", outer.digits),
            compared=one.get("compared", outer.compared),
        )
        yield from _entries(one["entries"], here, entry) if "entries" in one else [entry]


def _printed(outer: Mapping[str, Any] | None, own: Any, what: str) -> Mapping[str, Any] | None:
    if outer is None or own in (None, "none"):
        return None
    return {**outer, **_mapping(own, what)}


def _text(text: Any, what: str) -> str:
    """LaTeX of the author of the file, in one line. Raises ValueError for what would end a cell or open a group."""
    if not isinstance(text, (str, int, float)):
        raise ValueError(f"{what} must be text")
    one_line = " ".join(str(text).split())
    if why := fault(one_line):
        raise ValueError(f"{what}: {one_line!r} is no LaTeX for a cell: {why}")
    return one_line


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a mapping of columns to values, e.g. {{generator: vae}}")
    return {str(key): one for key, one in value.items()}


def _check(settings: Mapping[str, Any], key: str, allowed: Sequence[Any], what: str) -> None:
    if key in settings and not any(
        settings[key] is one or (type(settings[key]) is type(one) and settings[key] == one) for one in allowed
    ):
        raise ValueError(f"{what}: {key}={settings[key]} must be one of {', '.join(map(str, allowed))}")
