"""Under which conditions a number was measured. Numbers of different ones are no rivals: they are kept apart."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..arrays.subsets import SOURCES
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
    options="set of options",
    samples="number of generated samples",
    preprocessing="preprocessing",
    split="choice of samples",
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
        split=", ".join(
            _in_words(view, record.preprocessing.get(name, "")) for name, view in sorted(cell.views.items())
        ),
        reals=_listed({name: f"{count:,}" for name, count in found.items() if isinstance(count, int)}),
    )


def differences(here: Conditions, there: Conditions) -> Iterator[str]:
    """What is not the same, e.g. "another version of the metric: 2, not 1".

    The choice of samples names the space that they are read in, so it is compared only where the preprocessing is the
    same.
    """
    for name, subject, one, other in zip(Conditions._fields, SUBJECTS, here, there, strict=True):
        if one != other and (name != "split" or here.preprocessing == there.preprocessing):
            yield f"another {subject}: {one or 'not recorded'}, not {other or 'not recorded'}"


def computed_with(records: Sequence[Record]) -> str:
    """With what the numbers were computed; where that is not the same for all, how many records each is for."""
    counts = Counter("; ".join(f"{key} {value}" for key, value in sorted(r.numerics.items())) for r in records)
    if len(counts) == 1:
        return next(iter(counts))
    return ". ".join(f"{text} ({count} of {len(records)} records)" for text, count in counts.most_common())


def _listed(named: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(named.items()))


def _in_words(view: View, through: str) -> str:
    """E.g. "5000 real in classifier". "features" is called by the name of the feature space that was chosen."""
    encoded = f" ({view.encode})" if view.source != "fake" and view.space.partition(":")[0] == "latent" else ""
    count = "as many" if view.n == "same" else str(view.n)
    return f"{count} {SOURCES[view.source]} in {through.partition(':')[0] or view.space}{encoded}"
