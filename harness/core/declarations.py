"""What a decorator of `registry.py` stores of a metric, a study, and all else that has options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .protocols import Better, Modality, View


@dataclass(frozen=True)
class Metric:
    """A declared metric; `views` names what each parameter without default reads, `modality` what samples it takes.

    types: the declared type of each option. fixed_features: its views are part of what it is.
    moments: those of its views for whose samples their `Statistics` can stand. reads: by option and value, views that
    only this value needs. replace: whether it stands for another one of its name.
    """

    name: str
    function: Callable[..., Any]
    better: Better
    kind: Literal["set", "sample", "study"]
    source: str
    version: int
    views: Mapping[str, View]
    options: Mapping[str, Any]
    types: Mapping[str, Any]
    modality: Modality = "any"
    fixed_features: bool = False
    moments: Sequence[str] = ()
    reads: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    replace: bool = False

    def unread(
        self, options: Mapping[str, Any], can_be_had: Callable[[Sequence[str]], bool] = lambda names: True
    ) -> set[str]:
        """The views that a call with these options does not need, given what tells whether views can be had."""
        unread, read = set[str](), set[str]()
        for option, views in self.reads.items():
            value = str(options[option])
            names = [views[value]] if value in views else [names for names in views.values() if can_be_had(names)]
            unread.update(*views.values())
            read.update(*names[:1])
        return unread - read


@dataclass(frozen=True)
class Entry:
    """A declared generator, data set, extractor, trainer or sink: a function with options.

    types: the declared type of each option.
    recognise: for a generator, whether what `read_checkpoint` found in a file is one of its own.
    replace: whether it stands for another one of its name.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    types: Mapping[str, Any] = field(default_factory=dict)
    recognise: Callable[[Any], bool] | None = None
    replace: bool = False


@dataclass(frozen=True)
class Study:
    """A declared study: a function of a run and its options.

    make_options: makes the options' dataclass, with its values checked; options: its fields with their defaults;
    types: their declared types.
    in_parts: whether it yields parts, not rows. tables: names of the key columns of each table that it fills.
    uses:   metrics that it depends on without a cell, beside those that its files import.
    page:   from what was found to blocks of the page; None shows the tables as they are.
    replace: whether it stands for another one of its name.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    types: Mapping[str, Any]
    make_options: Callable[..., Any]
    in_parts: bool
    tables: Mapping[str, tuple[str, ...]]
    version: int
    uses: tuple[str, ...]
    page: Callable[..., Any] | None
    replace: bool = False
