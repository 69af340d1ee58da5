"""Names to functions: metrics, generators, data sets, extractors and studies register here (`discovery.py` finds them).

A decorator stores a declaration and returns the function with its options checked, for a test or a notebook to call.
Parameters without default are what the harness supplies (views, a data set name); parameters with default are options.
Their annotations say what they may be (`options.py`).
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, cast, get_args, get_type_hints, overload

from .declarations import Entry, Metric, Study
from .discovery import discover as discover  # most callers look up names next, and import both from here
from .options import checked, checking, option_types
from .protocols import Better, Dataset, Extractor, Modality, Part, Row, View

F = TypeVar("F", bound=Callable[..., Any])

TABLES_OF_CELLS = ("metrics", "leaderboard")
"""Tables of every report; those of studies have other names."""
TABLE_NAME = "a table cannot be called {!r}: choose a plain word, other than metrics and leaderboard"


class Registry(dict[str, Any]):
    """A dictionary whose missing keys explain themselves, and that tells which of its entries `[]` looked up."""

    def __init__(self, noun: str):
        super().__init__()
        self.noun = noun
        self._watched: list[set[str]] = []

    def __missing__(self, name: str) -> Any:
        raise KeyError(unknown(self.noun, name, sorted(self)))

    def __getitem__(self, name: str) -> Any:
        entry = super().__getitem__(name)
        for names in self._watched:
            names.add(name)
        return entry

    @contextmanager
    def watched(self) -> Iterator[set[str]]:
        """The names that the body looks up, filled while it runs."""
        names: set[str] = set()
        self._watched.append(names)
        try:
            yield names
        finally:
            self._watched.pop()

    def add(self, name: str, entry: Any) -> None:
        """An entry declared again at its own place, as in a notebook, takes the place of the old one.

        One that says `replace` stands for that of another place, whichever of the two was declared first. Raises
        ValueError for two entries of one name from two places, of which none or both say so.
        """
        old = self.get(name)
        if old is None or _is_same(old.function, entry.function) or (entry.replace and not old.replace):
            self[name] = entry
        elif entry.replace == old.replace:
            fix = "rename one" if entry.replace else f"rename one, or declare yours with @{self.noun}(replace=True)"
            places = f"in {_file(old.function)} and in {_file(entry.function)}"
            raise ValueError(f"{self.noun} {name!r} is declared twice: {places}; {fix}")


METRICS = Registry("metric")
GENERATORS = Registry("generator")
DATASETS = Registry("dataset")
EXTRACTORS = Registry("extractor")
STUDIES = Registry("study")
TRAINERS = Registry("trainer")
SINKS = Registry("sink")
READY: dict[str, Callable[..., None]] = {}
"""By the name of a sink, what tells before a run whether it can be opened."""
GROUPS: Mapping[str, Registry] = {
    "metric": METRICS,
    "generator": GENERATORS,
    "dataset": DATASETS,
    "extractor": EXTRACTORS,
    "study": STUDIES,
    "trainer": TRAINERS,
    "sink": SINKS,
}


def unknown(noun: str, name: str, known: list[str]) -> str:
    """One line about an unknown name: the nearest known names first, then all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"unknown {noun} {name!r}{hint} Known: {', '.join(known) or 'none'}"


def is_table_name(name: str) -> bool:
    """Whether a table of a study, and so its files, can have this name."""
    return name.isidentifier() and name not in TABLES_OF_CELLS


def check_options(chosen: Mapping[str, Any]) -> None:
    """Raise ValueError for the first option in {group: {name: options}} that is not of its declared type or range.

    Keys that are no group are passed over, as are names and options that nothing declares.
    """
    for group, registry in GROUPS.items():
        for name, options in (chosen.get(group) or {}).items():
            if name in registry:
                checked(f"{group} {name}", registry[name].types, options or {})


def _file(function: Callable[..., Any]) -> str:
    """Where a function is defined; of a class the module."""
    found = inspect.unwrap(function)
    return str(found.__code__.co_filename if hasattr(found, "__code__") else found.__module__)


def _is_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are one that was defined twice; each cell of a notebook is a file of its own."""
    one, other = inspect.unwrap(one), inspect.unwrap(other)
    return _file(one) == _file(other) or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _parameters(function: Callable[..., Any]) -> tuple[list[str], dict[str, Any]]:
    """Names without default, and options with theirs."""
    parameters = inspect.signature(function).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty]
    return required, {p.name: p.default for p in parameters if p.default is not p.empty}


def metric(
    *,
    better: Better,
    kind: Literal["set", "sample"],
    source: str,
    version: int = 1,
    modality: Modality = "any",
    fixed_features: bool = False,
    moments: Sequence[str] = (),
    reads: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    replace: bool = False,
    **views: View,
) -> Callable[[F], F]:
    """Declare a metric: a pure function of the tensors named in `views`.

    kind "set" returns a number, an Estimate, or a mapping of names to either; kind "sample" a tensor [N] with NaN where
    the score is not defined. source is a citation such as "arXiv:2407.15171 eq. 1" or a URL. Raise `version` whenever
    the definition changes: records of the old version are then computed again. modality: "image" or "shape" where it
    makes sense of these alone; a sweep over all metrics then leaves it out elsewhere. fixed_features: in another space
    it would be another metric, which may not bear its name: `space` and `encode` are refused. moments: names of views
    that may also be given as `Statistics`, where the samples are not at hand. reads: {option: {value: names}},
    views that are read for this value of the option alone; they are parameters whose default is None. For a value that
    is not there, such as "auto", the first ones that can be had. replace: this metric stands for another of its name.

    Raises TypeError when the views are not exactly the parameters without default and those of `reads`.
    """

    def register(function: F) -> F:
        required, options = _parameters(function)
        chosen = {name for values in (reads or {}).values() for names in values.values() for name in names}
        required += [name for name in options if name in chosen]
        if required != list(views):
            raise TypeError(
                f"metric {function.__name__!r}: parameters without default are {required}, declared views are "
                f"{list(views)}; they must be the same, in the same order"
            )
        options = {name: value for name, value in options.items() if name not in views}
        if not source:
            raise TypeError(f"metric {function.__name__!r}: `source` is empty; cite a paper, an equation or a URL")
        name = function.__name__
        types = {option: declared for option, declared in option_types(function).items() if option in options}
        called = _in_full_precision(checking(f"metric {name}", function, types))
        about = (
            better,
            kind,
            source,
            version,
            views,
            options,
            types,
            modality,
            fixed_features,
            tuple(moments),
            reads or {},
            replace,
        )
        METRICS.add(name, Metric(name, called, *about))
        return called

    return register


def _in_full_precision(function: F) -> F:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        from .precision import full_precision  # it needs torch, for which `assay --help` does not wait

        with full_precision():
            return function(*args, **kwargs)

    return cast(F, call)


def _entry(
    registry: Registry,
    needed: list[str],
    replace: bool,
    recognise: Callable[[Any], bool] | None = None,
    name: str = "",
) -> Callable[[F], F]:
    """name: under which it is declared, by default that of the function."""

    def register(function: F) -> F:
        called_by, types = name or function.__name__, option_types(function)
        required, options = _parameters(function)
        if required != needed:
            raise TypeError(
                f"{registry.noun} {called_by!r}: parameters without default are {required}, must be {needed}"
            )
        called = checking(f"{registry.noun} {called_by}", function, types)
        registry.add(called_by, Entry(called_by, called, options, types, recognise, replace))
        return called

    return register


@overload
def dataset(function: Callable[..., Dataset]) -> Callable[..., Dataset]: ...
@overload
def dataset(*, replace: bool) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]: ...
def dataset(function: Any = None, *, replace: bool = False) -> Any:
    """Declare a data set: `function(**options)` returns a Dataset. replace: it stands for another one of its name."""
    declare = _entry(DATASETS, [], replace)
    return declare if function is None else declare(function)


@overload
def generator(function: F) -> F: ...
@overload
def generator(*, recognise: Callable[[Any], bool] | None = ..., replace: bool = ...) -> Callable[[F], F]: ...
def generator(function: Any = None, *, recognise: Callable[[Any], bool] | None = None, replace: bool = False) -> Any:
    """Declare a generator: `function(dataset, **options)` returns a Generator; `dataset` is a data set's name.

    A family that opens files takes their path as option `path`, and `recognise` says of the content of a file, as
    `harness.formats.checkpoint.read_checkpoint` returns it, whether the family can open it. replace: the family stands
    for another one of its name, such as one of ours, and opens its files.
    """
    declare = _entry(GENERATORS, ["dataset"], replace, recognise)
    return declare if function is None else declare(function)


@overload
def extractor(function: Callable[..., Extractor]) -> Callable[..., Extractor]: ...
@overload
def extractor(*, replace: bool) -> Callable[[Callable[..., Extractor]], Callable[..., Extractor]]: ...
def extractor(function: Any = None, *, replace: bool = False) -> Any:
    """Declare a feature space: `function(dataset, **options)` returns an Extractor; `dataset` is a data set's name.

    replace: it stands for another one of its name.
    """
    declare = _entry(EXTRACTORS, ["dataset"], replace)
    return declare if function is None else declare(function)


def study(
    *,
    version: int = 1,
    uses: Sequence[str] = (),
    page: Callable[..., Any] | None = None,
    replace: bool = False,
    **tables: Sequence[str],
) -> Callable[[F], F]:
    """Declare a study: `function(run, options)` yields rows, or parts of rows (`Part`), of the tables named here.

    tables: the names of the key columns of each, e.g. best_share=("score", "group"). A row is a pair of keys, one for
    each column, and an Estimate. The second parameter's annotation is the dataclass of options, all with defaults; they
    are options on the command line. `page(found)` yields blocks (harness/report/blocks.py); without one the page shows
    the tables. Metrics that the study's files import are noticed; `uses` names those that it uses in other ways. Raise
    `version` when the numbers change: records of the old version are then computed again.

    Raises TypeError when the function, its options or its tables do not have this form.
    """

    def register(function: F) -> F:
        name = function.__name__
        parameters = list(inspect.signature(function).parameters)
        hints = get_type_hints(function)
        make = hints.get(parameters[1]) if len(parameters) == 2 else None
        if not isinstance(make, type) or not is_dataclass(make):
            raise TypeError(
                f"study {name!r} must be a function of a run and its options, {name}(run: Run, options: Options), "
                "where Options is a dataclass"
            )
        yielded = get_args(hints.get("return")) or (None,)
        if yielded[0] not in (Part, Row):
            raise TypeError(f"study {name!r} must be annotated to return Iterator[Row] or Iterator[Part]")
        if not tables or any(isinstance(columns, str) or not columns for columns in tables.values()):
            raise TypeError(f"study {name!r} must name the columns of its tables, e.g. {name}=('score',)")
        others = {table: entry.name for entry in STUDIES.values() if entry.name != name for table in entry.tables}
        for table in tables:
            if table in others:
                raise TypeError(
                    f"study {name!r}: table {table!r} is one of study {others[table]!r}; give it another name"
                )
            if not is_table_name(table):
                raise TypeError(f"study {name!r}: {TABLE_NAME.format(table)}")
        lacking = [option.name for option in fields(make) if option.default is option.default_factory is MISSING]
        if lacking:
            raise TypeError(f"study {name!r}: options {', '.join(lacking)} have no default")
        default, types = make(), get_type_hints(make, include_extras=True)
        entry = Study(
            name=name,
            function=function,
            options={option.name: getattr(default, option.name) for option in fields(make)},
            types=types,
            make_options=lambda **options: make(**checked(f"study {name}", types, options)),
            in_parts=yielded[0] is Part,
            tables={table: tuple(columns) for table, columns in tables.items()},
            version=version,
            uses=tuple(uses),
            page=page,
            replace=replace,
        )
        STUDIES.add(name, entry)
        return function

    return register


def trainer(name: str, *, replace: bool = False) -> Callable[[F], F]:
    """Declare how generator or extractor `name` is trained: `function(data, seed, **options)` returns a Training.

    replace: it stands for another one of its name.
    """

    return _entry(TRAINERS, ["data", "seed"], replace, name=name)


def sink(name: str, *, replace: bool = False, ready: Callable[..., None] | None = None) -> Callable[[F], F]:
    """Declare where else results go: `function(about, **options)` opens a Sink (harness/sinks/protocol.py).

    What it needs beyond assay it imports when it is called. replace: it stands for another one of its name. ready: is
    called with the options before anything is computed, and raises what tells why the sink could not be opened later.
    """
    declare = _entry(SINKS, ["about"], replace, name=name)

    def declared(function: F) -> F:
        found = declare(function)
        READY.pop(name, None)
        if ready is not None:
            READY[name] = ready
        return found

    return declared
