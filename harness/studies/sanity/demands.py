"""What each check asks of a metric of fidelity, of diversity, and of a distance (arXiv:2505.22450, and its code).

A distance is asked for shapes alone, and the paper has none: equal sets are best, mode dropping makes it worse, and it
should not depend on the number of samples, on a scale, or on dimensions in which nothing differs. Rounding is not asked
of it, for which the paper's answers are those of fidelity and diversity.
"""

from collections.abc import Sequence
from typing import Literal

from .checks import LATE, Case, Check
from .criteria import (
    Criterion,
    bell,
    falling,
    falling_by,
    flat,
    flat_since,
    level,
    near,
    near_either,
    rising,
    shape,
    shape_either,
)

Kind = Literal["fidelity", "diversity", "distance"]
ONE = "identical"


def demands(check: Check, case: Case, kind: Kind, size: int) -> Sequence[Criterion]:
    """The criteria of one case; size: the usual number of samples, from which on a curve over sizes should be flat."""
    first, last = case.at[0], case.at[-1]
    fidelity, distance = kind == "fidelity", kind == "distance"
    match check.name:
        case "mean difference" | "mean difference with outlier" | "mean difference with Pareto":
            return _bell(0.0, ("extreme negative", first), ("extreme positive", last))
        case "hypersphere surface":
            return _bell(1.0, ("small radius", first), ("large radius", last))
        case "std difference":
            if distance:
                return [shape(bell(1.0))]
            wide = near("large std", 0, last) if fidelity else near_either("large std", last)
            form = shape(falling) if fidelity else shape_either(low=bell(1.0), high=rising)
            return [near(ONE, 1, 1.0), near("small std", 1 if fidelity else 0, first), wide, form]
        case "simultaneous mode dropping" | "sequential mode dropping":
            middle = case.at[LATE] if check.name.startswith("simultaneous") else 4.0
            if fidelity:
                return [near(ONE, 1, first), near("modes dropped", 1, last), level(flat)]
            return [near(ONE, 1, first), shape(falling_by(middle))]
        case "mode dropping and invention":
            if distance:
                return [shape(bell(5.0))]
            extreme = near("one mode", 1, first) if fidelity else near("ten modes", 1, last)
            return [near(ONE, 1, 5.0), extreme, shape(falling if fidelity else rising)]
        case "hypercube, both sizes" | "hypercube, fake size":
            return [level(flat_since(size)), near("largest size", 0.2, last)]
        case "sphere and torus":
            return [level(flat_since(size)), near("largest size", 0, last)]
        case "one or two modes":
            either = shape_either(low=falling, high=flat)
            return [near(ONE, 1, first), either if kind == "diversity" else shape(falling)]
        case "scale of one dimension" | "one disjoint dimension":
            return [level(flat), near("first", 0, first), near("last", 0, last)]
        case "discrete and continuous":
            return [] if distance else _rounding(case, fidelity)
    raise ValueError(f"nothing is known of the check {check.name!r}")


def _bell(middle: float, *ends: tuple[str, float]) -> list[Criterion]:
    return [near(ONE, 1, middle), *(near(name, 0, at) for name, at in ends), shape(bell(middle))]


def _rounding(case: Case, fidelity: bool) -> list[Criterion]:
    """Rounded samples cannot contain continuous ones; continuous ones may contain rounded ones."""
    ends = [("coarse", case.at[0]), ("fine", case.at[-1])]
    if case.name == "real discrete":
        asked = [near(name, 0, at) if fidelity else near_either(name, at) for name, at in ends]
    else:
        asked = [near(name, 1 if fidelity else 0, at) for name, at in ends]
    return [level(flat), *asked]
