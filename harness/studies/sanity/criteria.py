"""What a curve is asked in a sanity check, and by how much it meets or misses that (arXiv:2505.22450).

Every criterion has a margin: at least 0 where it is met. Values are oriented, so that more is better. The thresholds
are those of the authors' code, in units of a score in [0, 1]. The curve of a number without a fixed range is divided by
its own range first, or, where it should be flat, by its own mean size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

CLOSE = 0.05
"""How far a value may be from what it should be, and how much a flat curve may vary."""
DROP = 0.2
"""How much two ends must differ, and the middle of a bell from both."""
EXTREME = 0.1
"""How far an end may be from the least or the largest value."""
Unit = Literal["bounds", "range", "level"]


class Curve(NamedTuple):
    """Means y of a metric at values x, in ascending order."""

    x: Sequence[float]
    y: Sequence[float]

    def at(self, x: float) -> float:
        return self.y[min(range(len(self.x)), key=lambda i: abs(self.x[i] - x))]

    def since(self, x: float) -> "Curve":
        first = next(i for i, value in enumerate(self.x) if value >= x)
        return Curve(self.x[first:], self.y[first:])

    @property
    def spread(self) -> float:
        return max(self.y) - min(self.y)


Margin = Callable[[Curve], float]


@dataclass(frozen=True)
class Criterion:
    """unit: what the values of a metric without a fixed range are divided by; "bounds" is not asked of such a metric.

    ways: one margin; or several by name, of which one must be met and is named.
    """

    name: str
    unit: Unit
    ways: Mapping[str, Margin]

    def margin(self, curve: Curve, bounded: bool) -> tuple[float, str]:
        """The largest margin of all ways, and which way that is; NaN where the curve has undefined values."""
        if any(map(math.isnan, curve.y)):
            return math.nan, ""
        given = curve if bounded else Curve(curve.x, [value / self._size(curve) for value in curve.y])
        return max((way(given), name) for name, way in self.ways.items())

    def _size(self, curve: Curve) -> float:
        level = math.fsum(map(abs, curve.y)) / len(curve.y)
        return (curve.spread if self.unit == "range" else level) or 1.0


def near(name: str, target: float, at: float) -> Criterion:
    """The value at x is close to the target."""
    return Criterion(name, "bounds", {"": lambda curve: CLOSE - abs(curve.at(at) - target)})


def near_either(name: str, at: float) -> Criterion:
    """The value at x is close to 0 ("low") or to 1 ("high")."""
    ways = {"low": lambda curve: CLOSE - abs(curve.at(at)), "high": lambda curve: CLOSE - abs(curve.at(at) - 1)}
    return Criterion(name, "bounds", ways)


def shape(margin: Margin) -> Criterion:
    return Criterion("shape", "range", {"": margin})


def shape_either(low: Margin, high: Margin, unit: Unit = "range") -> Criterion:
    return Criterion("shape", unit, {"low": low, "high": high})


def level(margin: Margin) -> Criterion:
    """A shape that is about how much the values vary in all."""
    return Criterion("shape", "level", {"": margin})


def bell(middle: float) -> Margin:
    def margin(curve: Curve) -> float:
        top, left, right = curve.at(middle), curve.y[0], curve.y[-1]
        low = min(left, right) - min(curve.y)
        return min(top - max(left, right) - DROP, EXTREME - (max(curve.y) - top), EXTREME - low)

    return margin


def falling(curve: Curve) -> float:
    first, last = curve.y[0], curve.y[-1]
    return min(first - last - DROP, EXTREME - (max(curve.y) - first), EXTREME - (last - min(curve.y)))


def rising(curve: Curve) -> float:
    return falling(Curve(curve.x, curve.y[::-1]))


def falling_by(middle: float) -> Margin:
    """Falling, and by 0.1 at x already."""
    return lambda curve: min(falling(curve), curve.y[0] - curve.at(middle) - EXTREME)


def flat(curve: Curve) -> float:
    return CLOSE - curve.spread


def flat_since(x: float) -> Margin:
    return lambda curve: flat(curve.since(x))
