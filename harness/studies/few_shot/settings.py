"""The settings of `few_shot`: what is kept of the generated features, and the scores by which it can be chosen."""

from collections.abc import Sequence
from typing import NamedTuple

from ...core.progress import say
from ...core.protocols import Cell, View
from ...core.registry import METRICS
from ...run import Run

NONE, ALL, RANDOM, ORACLE, NORM = "none", "all", "random", "oracle", "top negative_norm"
"""Selections by name; those by a score are "top SCORE", "bottom SCORE". The oracle knows the true mean of a class."""
ACCURACY, GAIN, OVER_NORM, OF_ORACLE = "accuracy", "gain over random", "gain over norm", "share of the oracle's gain"
POOLED = ", these splits"
"""Behind the name of a quantity whose interval holds for these base and novel classes alone."""
PROTOTYPE, LOGISTIC = "nearest prototype", "logistic regression"
"""Classifiers."""


class Setting(NamedTuple):
    """One choice among the first `number` generated features of each class.

    cell: whose scores decide, none for all, a random share and the oracle's; sign: -1 for the lowest. main: at n and
    the share asked for; the others are points of the plots.
    """

    number: int
    share: float
    name: str
    cell: Cell | None = None
    sign: int = 1
    main: bool = True

    @property
    def keys(self) -> tuple[str, str, str]:
        """What the columns generated, share and selection hold."""
        return str(self.number), f"{self.share:g}", self.name


def settings_of(
    scored: Sequence[Cell], asked: Sequence[Cell], n: int, share: float, shares: Sequence[float], numbers: Sequence[int]
) -> list[Setting]:
    """Of all features, of a random share, of the oracle's, of both ends by each score; then the points of the plots.

    Raises ValueError for a share that keeps none, or too many.
    """
    ends = [
        (name, cell, sign) for cell in scored for name, sign in ((f"top {cell.label}", 1), (f"bottom {cell.label}", -1))
    ]
    found = [Setting(n, 1, ALL), Setting(n, share, RANDOM), Setting(n, share, ORACLE)]
    found += [Setting(n, share, name, cell, sign) for name, cell, sign in ends]
    first = list({cell.metric: cell for cell in reversed(asked)}.values())[::-1]
    points = [(n, other) for other in shares if other != share] + [(other, share) for other in numbers if other != n]
    for number, part in points:
        found.append(Setting(number, part, RANDOM, main=False))
        found += [Setting(number, part, f"top {cell.label}", cell, main=False) for cell in first]
    for setting in found:
        if not 0 < setting.share <= 1 or round(setting.share * setting.number) < 1:
            raise ValueError(
                f"a share of {setting.share:g} of {setting.number} generated features keeps none, or too many"
            )
    return found


def can_be_had(cell: Cell) -> bool:
    """Whether all views that a score reads exist; says which do not."""
    lacking = [f"{view.source} {view.space}" for view in cell.views.values() if not _exists(view)]
    if lacking:
        say(f"{cell.label} is left out: generated features have no view of {' and '.join(lacking)}")
    return not lacking


def every_other(run: Run, asked: Sequence[Cell]) -> list[Cell]:
    """Every registered per-sample score that has what it reads, but those asked for."""
    known = {cell.label for cell in asked}
    readable = [
        run.cell(name)
        for name, metric in METRICS.items()
        if metric.kind == "sample" and all(map(_exists, metric.views.values()))
    ]
    return [cell for cell in readable if cell.label not in known]


def _exists(view: View) -> bool:
    """Whether there is such a view of generated features and of base classes."""
    kind = view.space.partition(":")[0]
    if view.source == "fake":
        return kind in ("latent", "features", "reencoded")
    return view.source == "real" and (
        kind == "features" or (kind == "latent" and view.encode in ("mean", "sample", "logvar"))
    )
