"""Under which conditions a number was measured. Numbers of different ones are no rivals: they are kept apart."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..core.protocols import Record, View


class Conditions(NamedTuple):
    """All that two numbers of one metric on one data set must share to be compared, in words."""

    version: str
    options: str
    samples: str
    preprocessing: str
    split: str
    reals: str


SUBJECTS = Conditions(
    version="version of the metric",
    options="options of the metric",
    samples="number of generated samples",
    preprocessing="preprocessing",
    split="samples that it reads",
    reals="number of real samples",
)
"""What each of them is called."""


def conditions(record: Record) -> Conditions:
    cell = record.cell
    real = {name for name, view in cell.views.items() if view.source != "fake"}
    found = {name: counts.get("found", counts.get("used")) for name, counts in record.samples.items() if name in real}
    return Conditions(
        version=str(record.version),
        options=_listed(cell.params),
        samples=f"{cell.n:,}",
        preprocessing=" / ".join(dict.fromkeys(record.preprocessing[name] for name in sorted(record.preprocessing))),
        split=_listed({name: _in_words(view) for name, view in cell.views.items()}),
        reals=_listed({name: f"{count:,}" for name, count in found.items() if isinstance(count, int)}),
    )


def differences(here: Conditions, there: Conditions) -> Iterator[str]:
    """What is not the same, a sentence each without its full stop. Records of old releases lack some: no difference."""
    for subject, one, other in zip(SUBJECTS, here, there, strict=True):
        if one != other:
            yield f"{subject} is {one or 'not told'} instead of {other or 'not told'}"


def _listed(named: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(named.items()))


def _in_words(view: View) -> str:
    """E.g. "5000 real in features", "same fake in images"."""
    encoded = f" ({view.encode})" if view.source != "fake" and view.space.partition(":")[0] == "latent" else ""
    return f"{view.source} in {view.space}{encoded}, {view.n}"
