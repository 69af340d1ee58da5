"""Which scores and signals of quality are not independent, because they read the same feature space."""

from collections.abc import Sequence

from ..core.protocols import Record
from ..stats.correlations import COMPOSITE

Pairs = set[tuple[str, str]]


def shared_spaces(records: Sequence[Record]) -> Pairs:
    """Pairs of metrics that see samples in the same feature space, or read real ones in the same form.

    Codes are left out: no signal reads them.
    """
    spaces: dict[str, set[str]] = {}
    for record in records:
        read = spaces.setdefault(record.cell.label, set())
        for name, view in record.cell.views.items():
            through = record.preprocessing.get(name)  # "features" may also be asked for by its own name
            if through or (view.source != "fake" and not view.space.startswith("latent")):
                read.add(through or view.space)
    return {(a, b) for a in spaces for b in spaces if spaces[a] & spaces[b]}


def with_composite(shared: Pairs, signals: Sequence[str]) -> Pairs:
    """The same pairs, and a score with the composite where it shares a space with one of the signals in that."""
    members = {signal for signal in signals if signal != COMPOSITE}
    return shared | {(score, COMPOSITE) for score, signal in shared if signal in members}
