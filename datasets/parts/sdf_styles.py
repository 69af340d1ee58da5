"""Airplanes, chairs, tables and rifles of random parts, in styles of known frequency.

Parts are at least about 0.09 thick, 1.4 voxels of a grid of 32 points, so that the grid misses hardly anything. y is
up, x is across and z is along the shape; noses and muzzles point towards -z.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from .primitives import Part, Vector, box, disc, plate, ring, rod, rotation

THIN = 0.045
"""Minimum half thickness of a flat part."""
ROUND = 0.055
"""Minimum radius of a round part; after fitting it is more than half the diagonal of a voxel of a grid of 32."""
STYLES: Mapping[str, Mapping[str, float]] = {
    "airplane": {"airliner": 0.6, "propeller": 0.25, "fighter": 0.15},
    "chair": {"four_legs": 0.64, "armchair": 0.16, "swivel": 0.12, "sled": 0.08},
    "table": {"four_legs": 0.64, "pedestal": 0.16, "panels": 0.12, "cabinet": 0.08},
    "rifle": {"assault": 0.6, "hunting": 0.28, "sniper": 0.12},
}
"""The probability of each style in its category."""


class Draws:
    """Random draws of the parameters of a shape."""

    def __init__(self, *seed: int):
        self.rng = np.random.default_rng(seed)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, **weights: float) -> str:
        return str(self.rng.choice(list(weights), p=list(weights.values())))


def pair(part: Part) -> list[Part]:
    """A left part and its mirror image on the right."""
    return [part, part.mirrored(part.name.replace("left", "right"))]


def wing(name: str, root: Vector, span: float, chord: float, tip: float, sweep: float, lift: float) -> list[Part]:
    """Two wings that extend outwards from a root point on the plane x = 0 and rise by `lift` degrees."""
    x, y, z = root
    inner = 0.1  # the wings overlap inside the body
    outline = [(-inner, z), (span, z + sweep), (span, z + sweep + tip), (-inner, z + chord)]
    return pair(plate(f"left {name}", outline, "xz", y, THIN).turned(rotation("z", lift), (x, y, z)))


def airplane(draws: Draws) -> tuple[str, list[Part]]:
    style = draws.choose(**STYLES["airplane"])
    return style, {"airliner": _airliner, "propeller": _propeller, "fighter": _fighter}[style](draws)


def _body(draws: Draws, length: float, radius: float, tail: float) -> list[Part]:
    """A fuselage from -length/2 to length/2 that tapers towards a raised tail."""
    front, bend, end = -length / 2 + radius, length / 2 - tail, length / 2 - THIN
    return [
        rod("fuselage", (0, 0, front), (0, 0, bend), radius),
        rod("fuselage", (0, 0, bend), (0, radius * draws.between(0.2, 0.6), end), radius, ROUND),
    ]


def _fin(draws: Draws, length: float, chord: float, height: float, x: float = 0.0) -> Part:
    back = length / 2 - draws.between(0, 0.05)
    sweep, tip = draws.between(0.4, 0.8) * height, chord * draws.between(0.4, 0.7)
    outline = [(0.0, back - chord), (0.0, back), (height, back - chord + sweep + tip), (height, back - chord + sweep)]
    return plate("fin", outline, "yz", x, THIN)


def _airliner(draws: Draws) -> list[Part]:
    length, radius = draws.between(1.65, 1.9), draws.between(0.095, 0.14)
    span, chord = draws.between(0.7, 0.95), draws.between(0.34, 0.46)
    tip, sweep, lift = chord * draws.between(0.3, 0.5), draws.between(0.15, 0.5), draws.between(0, 8)
    z, y = draws.between(-0.3, -0.1), -radius * draws.between(0.2, 0.6)
    parts = _body(draws, length, radius, draws.between(0.35, 0.55))
    parts += wing("wing", (0, y, z), span, chord, tip, sweep, lift)
    height, small = draws.between(0.3, 0.42), draws.between(0.2, 0.28)
    parts.append(_fin(draws, length, draws.between(0.26, 0.36), height))
    top = draws.chance(0.2)
    z_tail = length / 2 - small - (0.05 if not top else -0.02)
    reach = span * draws.between(0.35, 0.45)
    parts += wing("tailplane", (0, height if top else radius * 0.4, z_tail), reach, small, 0.55 * small, 0.12, 0)
    engines = draws.choose(two=0.6, four=0.25, rear=0.15)
    size, half = draws.between(0.055, 0.08), draws.between(0.1, 0.15)
    if engines == "rear":
        place = (-(radius + 0.8 * size), radius * 0.3, length / 2 - 0.55)
        return parts + pair(_engine(place, size, half))
    for share in (0.35,) if engines == "two" else (0.3, 0.6):
        x = span * share
        height_there = y + x * math.tan(math.radians(lift))
        parts += pair(_engine((-x, height_there - 0.8 * size - 0.5 * THIN, z + sweep * share - 0.02), size, half))
    return parts


def _engine(place: Vector, radius: float, half: float) -> Part:
    return disc("left engine", place, (0, 0, 1), radius, half, 0.02)


def _propeller(draws: Draws) -> list[Part]:
    length, radius = draws.between(1.2, 1.45), draws.between(0.11, 0.15)
    span, chord, lift = draws.between(0.75, 0.95), draws.between(0.26, 0.36), draws.between(0, 5)
    tip, z = chord * draws.between(0.6, 1.0), -length / 2 + draws.between(0.25, 0.35)
    high, double = draws.chance(0.4), draws.chance(0.25)
    y = radius * 0.7 if high and not double else -radius * 0.7
    parts = _body(draws, length, radius, draws.between(0.6, 0.8))
    parts += wing("wing", (0, y, z), span, chord, tip, draws.between(0, 0.06), lift if not double else 0)
    if double:
        upper = y + draws.between(0.36, 0.44)
        parts += wing("upper wing", (0, upper, z - 0.03), span, chord, tip, 0, 0)
        for share in (0.15, 0.7):
            x = -span * share
            parts += pair(rod("left strut", (x, y, z + chord / 2), (x, upper, z + chord / 2), ROUND))
    height, small = draws.between(0.26, 0.34), draws.between(0.18, 0.24)
    parts.append(_fin(draws, length, draws.between(0.22, 0.3), height))
    parts += wing("tailplane", (0, 0.03, length / 2 - small - 0.03), span * 0.38, small, 0.7 * small, 0.05, 0)
    blade = draws.between(0.26, 0.34)
    angle = draws.between(0, 90)
    nose = -length / 2 - 0.04
    spread = box("propeller", (0, 0, nose), (blade, 0.05, THIN), 0.03).turned(rotation("z", angle), (0, 0, nose))
    parts += [spread, rod("propeller", (0, 0, nose - 0.04), (0, 0, nose + 0.12), 0.05, 0.09)]
    if draws.chance(0.5):
        foot = -radius - draws.between(0.16, 0.22)
        parts += pair(rod("left gear", (-0.05, -radius * 0.5, z + 0.1), (-0.2, foot, z + 0.06), ROUND))
        parts += pair(disc("left gear", (-0.21, foot, z + 0.06), (1, 0, 0), draws.between(0.08, 0.1), ROUND))
    return parts


def _fighter(draws: Draws) -> list[Part]:
    length, radius = draws.between(1.7, 1.85), draws.between(0.095, 0.12)
    front, back = -length / 2 + 0.5, length / 2 - 0.08
    parts = [
        rod("fuselage", (0, -0.02, -length / 2 + ROUND), (0, 0, front), ROUND, radius),
        rod("fuselage", (0, 0, front), (0, 0, back), radius, radius * 0.9),
        rod("canopy", (0, radius * 0.7, front - 0.08), (0, radius * 0.7, front + 0.2), 0.07, 0.05),
    ]
    chord, span = draws.between(0.75, 1.0), draws.between(0.5, 0.68)
    sweep = chord - draws.between(0.15, 0.3)
    parts += wing(
        "wing", (0, -0.02, back - chord - draws.between(0, 0.08)), span, chord, draws.between(0.1, 0.18), sweep, 0
    )
    parts += pair(box("left intake", (-radius, -0.03, front + 0.3), (0.055, 0.07, draws.between(0.2, 0.3)), 0.02))
    height = draws.between(0.26, 0.36)
    if draws.chance(0.5):
        fin = _fin(draws, length, draws.between(0.26, 0.34), height, -radius * 0.9)
        parts += [fin, fin.mirrored("right fin")]
    else:
        parts.append(_fin(draws, length, draws.between(0.3, 0.4), height * 1.1))
    if draws.chance(0.4):
        parts += wing("canard", (0, 0.03, front - 0.02), draws.between(0.26, 0.34), 0.2, 0.1, 0.14, 0)
    if draws.chance(0.4):
        for share in (0.55, 0.8) if draws.chance(0.5) else (0.6,):
            x, z = -span * share, back - 0.2
            parts += pair(rod("left missile", (x, -0.02 - 2 * THIN, z - 0.22), (x, -0.02 - 2 * THIN, z + 0.12), ROUND))
    return parts


def chair(draws: Draws) -> tuple[str, list[Part]]:
    style = draws.choose(**STYLES["chair"])
    width, depth = draws.between(0.36, 0.46), draws.between(0.34, 0.44)
    if style == "armchair":
        return style, _armchair(draws, width + 0.1, depth)
    thick, legs = draws.between(THIN, 0.08), draws.between(0.55, 0.75)
    parts = [box("seat", (0, 0, 0), (width, thick, depth), draws.between(0.01, thick))]
    parts += _back(draws, width, depth, draws.between(0.65, 0.95))
    if style == "swivel":
        parts += _star(draws, -legs)
    elif style == "sled":
        inset = width - ROUND
        for z in (-depth + ROUND, depth - ROUND):
            parts += pair(rod("left runner", (-inset, 0, z), (-inset, -legs, z), ROUND))
        parts += pair(rod("left runner", (-inset, -legs, -depth + ROUND), (-inset, -legs, depth - ROUND), ROUND))
    else:
        parts += _legs(draws, width, depth, -legs, low=0.4)
    if draws.chance(0.3):
        level, front = draws.between(0.22, 0.32), -depth + draws.between(0.06, 0.15)
        parts += pair(rod("left arm", (-width, level, front), (-width, level, depth), 0.055))
        parts += pair(rod("left arm", (-width, 0, front), (-width, level, front), ROUND))
    return style, parts


def _back(draws: Draws, width: float, depth: float, height: float) -> list[Part]:
    """The back of a chair, which leans: a panel, upright bars, bars across, or a frame with a panel."""
    kind = draws.choose(panel=0.4, upright=0.25, across=0.25, frame=0.1)
    thick, z = draws.between(THIN, 0.06), depth - 0.055
    parts = []
    if kind == "panel":
        half = height / 2
        parts = [
            box("back", (0, half, z), (width * draws.between(0.85, 1), half, thick), thick * draws.between(0.2, 1))
        ]
    else:
        x = width - 0.06
        parts = [rod("back", (side * x, 0, z), (side * x, height, z), 0.055) for side in (-1, 1)]
        parts.append(box("back", (0, height - 0.06, z), (width, 0.08, thick), 0.03))
    if kind == "upright":
        count = int(draws.rng.integers(1, 4))
        for i in range(count):
            at = x * (2 * (i + 1) / (count + 1) - 1)
            parts.append(rod("back", (at, 0, z), (at, height - 0.06, z), ROUND))
    elif kind == "across":
        for share in (0.35, 0.62)[: 1 + draws.chance(0.6)]:
            parts.append(box("back", (0, share * height, z), (x, 0.055, THIN), 0.02))
    elif kind == "frame":
        parts.append(box("back", (0, 0.55 * height, z), (x * 0.55, height * 0.4, THIN), 0.02))
    lean = rotation("x", draws.between(0, 14))
    return [part.turned(lean, (0, 0, z)) for part in parts]


def _legs(draws: Draws, width: float, depth: float, floor: float, low: float) -> list[Part]:
    """Four square or round legs from the corners of a seat or top at height 0 to the floor, sometimes with bars."""
    x, z, parts = width - 0.07, depth - 0.07, []
    square, splay, radius = draws.chance(0.4), draws.between(0, 0.1) * draws.chance(0.6), draws.between(0.052, 0.07)
    for side, across in ((-1, "left"), (1, "right")):
        for end, where in ((-1, "front"), (1, "back")):
            name = f"{where} {across} leg"
            if square:
                parts.append(box(name, (side * x, floor / 2, end * z), (radius * 0.9, -floor / 2, radius * 0.9), 0.01))
            else:
                foot = (side * (x + splay), floor, end * (z + splay))
                parts.append(
                    rod(
                        name,
                        (side * x, THIN - radius, end * z),
                        foot,
                        radius,
                        max(ROUND, radius * draws.between(0.7, 1)),
                    )
                )
    if draws.chance(low):
        share = draws.between(0.45, 0.75)
        level, out = floor * share, 0 if square else splay * share
        parts += pair(rod("left bar", (-x - out, level, -z - out), (-x - out, level, z + out), ROUND))
        if draws.chance(0.5):
            parts.append(rod("bar", (-x - out, level, 0), (x + out, level, 0), ROUND))
    return parts


def _star(draws: Draws, floor: float) -> list[Part]:
    """A column on a star of feet or on a round base."""
    parts = [rod("column", (0, -0.03, 0), (0, floor + 0.06, 0), draws.between(0.05, 0.075))]
    reach = draws.between(0.36, 0.46)
    if draws.chance(0.3):
        return [*parts, disc("base", (0, floor + THIN, 0), (0, 1, 0), reach, THIN)]
    count = int(draws.rng.integers(4, 6))
    for i in range(count):
        angle = 2 * math.pi * (i + 0.5) / count
        x, z = reach * math.sin(angle), reach * math.cos(angle)
        parts += [rod("base", (0, floor + 0.07, 0), (x, floor + 0.05, z), 0.06)]
        parts += [rod("base", (x, floor + 0.05, z), (x, floor, z), 0.06)]
    return parts


def _armchair(draws: Draws, width: float, depth: float) -> list[Part]:
    """A box with thick arms on small feet; a wide one is a sofa."""
    width *= draws.between(1.0, 1.5)
    height, arm, thick = draws.between(0.16, 0.24), draws.between(0.08, 0.13), draws.between(0.09, 0.14)
    soft = draws.between(0.02, 0.07)
    parts = [box("seat", (0, 0, 0), (width, height, depth), soft)]
    rise = draws.between(0.5, 0.75)
    back = box("back", (0, rise / 2, depth - thick), (width, rise / 2 + height, thick), soft)
    parts.append(back.turned(rotation("x", draws.between(0, 10)), (0, 0, depth - thick)))
    top = draws.between(0.15, 0.3)
    parts += pair(box("left arm", (-width - arm * 0.5, top / 2, 0), (arm, top / 2 + height, depth), soft))
    for z in (-depth + 0.1, depth - 0.1):
        parts += pair(rod("left foot", (-width + 0.05, -height + 0.05, z), (-width + 0.05, -height - 0.1, z), ROUND))
    return parts


def table(draws: Draws) -> tuple[str, list[Part]]:
    style = draws.choose(**STYLES["table"])
    width, depth, height = draws.between(0.6, 0.85), draws.between(0.35, 0.6), draws.between(0.45, 0.8)
    thick = draws.between(THIN, 0.06)
    round_top = style in ("four_legs", "pedestal") and draws.chance(0.6 if style == "pedestal" else 0.15)
    if round_top:
        radius = draws.between(0.55, 0.75)
        width = depth = radius * (0.75 if style == "four_legs" else 1)
        parts = [disc("top", (0, 0, 0), (0, 1, 0), radius, thick, 0.02)]
    else:
        parts = [box("top", (0, 0, 0), (width, thick, depth), draws.between(0.005, thick))]
    if style == "four_legs":
        parts += _legs(draws, width, depth, -height, low=0.25)
        if draws.chance(0.25):
            level = -height * draws.between(0.45, 0.8)
            parts.append(box("shelf", (0, level, 0), (width - 0.06, THIN, depth - 0.06), 0.01))
        elif draws.chance(0.35):
            parts.append(box("apron", (0, -0.08, 0), (width - 0.06, 0.07, depth - 0.06), 0.01))
    elif style == "pedestal":
        parts += [rod("column", (0, -0.06, 0), (0, -height, 0), draws.between(0.05, 0.1), draws.between(0.06, 0.12))]
        reach = draws.between(0.28, 0.42)
        if draws.chance(0.5):
            parts.append(disc("base", (0, -height, 0), (0, 1, 0), reach, THIN))
        else:
            parts += [rod("base", (-reach, -height, 0), (reach, -height, 0), 0.06)]
            parts += [rod("base", (0, -height, -reach), (0, -height, reach), 0.06)]
    elif style == "panels":
        inset = width - draws.between(0.05, 0.2)
        parts += pair(
            box("left panel", (-inset, -height / 2, 0), (0.05, height / 2, depth * draws.between(0.7, 0.95)), 0.01)
        )
        if draws.chance(0.7):
            level = -height * draws.between(0.3, 0.8)
            parts.append(box("bar", (0, level, 0), (inset, 0.06, THIN), 0.01))
    else:
        half = draws.between(0.2, 0.32)
        parts += pair(
            box("left drawers", (-width + half, -height / 2, 0), (half - 0.02, height / 2, depth - 0.05), 0.01)
        )
        if draws.chance(0.5):
            parts.append(box("screen", (0, -height * 0.35, depth - 0.1), (width - 0.05, height * 0.35, THIN), 0.01))
    return style, parts


def rifle(draws: Draws) -> tuple[str, list[Part]]:
    style = draws.choose(**STYLES["rifle"])
    half = draws.between(0.055, 0.07)  # half the width
    tall, long = draws.between(0.075, 0.105), draws.between(0.24, 0.34)
    barrel, radius = draws.between(0.5, 0.75), draws.between(0.05, ROUND)
    muzzle = -long - barrel
    bore = tall * draws.between(0.2, 0.5)
    parts = [
        box("receiver", (0, 0, 0), (half, tall, long), 0.02),
        rod("barrel", (0, bore, 0), (0, bore, muzzle), radius),
    ]
    if style == "hunting":
        butt, drop = draws.between(0.5, 0.65), draws.between(0.12, 0.2)
        outline = [
            (tall * 0.6, long - 0.06),
            (-tall, long - 0.16),
            (-drop - 0.22, long + butt),
            (-drop + 0.08, long + butt),
        ]
        parts.append(plate("stock", outline, "yz", 0, half * 0.9))
        front = barrel * draws.between(0.4, 0.75)
        parts.append(box("forend", (0, -tall * 0.3, -long - front / 2), (half, tall * 0.6, front / 2 + 0.05), 0.03))
        parts.append(ring("guard", (0, -tall - 0.06, long * 0.5), (1, 0, 0), 0.09, THIN))
        if draws.chance(0.6):
            parts.append(rod("bolt", (0, bore, long * 0.4), (0.16, bore - 0.03, long * 0.45), ROUND, 0.06))
    else:
        parts += _assault(draws, half, tall, long, barrel)
    if draws.chance({"assault": 0.3, "hunting": 0.4, "sniper": 1.0}[style]):
        length, height, size = draws.between(0.2, 0.34), tall + draws.between(0.1, 0.13), draws.between(0.05, 0.06)
        parts.append(rod("scope", (0, height, -length), (0, height, length * 0.8), size * 1.2, size))
        parts += [rod("mount", (0, tall * 0.5, z), (0, height, z), ROUND) for z in (-length * 0.5, length * 0.4)]
    elif draws.chance(0.7):
        parts.append(box("sight", (0, bore + 0.06, muzzle + 0.05), (THIN, 0.06, THIN), 0.03))
    if style == "sniper" or draws.chance(0.1):
        foot = -draws.between(0.28, 0.36)
        z = -long - barrel * 0.55
        parts += pair(rod("left bipod", (0, 0, z), (-0.18, foot, z - 0.08), ROUND))
    return style, parts


def _assault(draws: Draws, half: float, tall: float, long: float, barrel: float) -> list[Part]:
    """Handguard, grip, magazine and stock of a military rifle."""
    guard = barrel * draws.between(0.45, 0.7)
    parts = [box("handguard", (0, 0.01, -long - guard / 2), (half, draws.between(0.07, 0.09), guard / 2 + 0.05), 0.03)]
    grip = box("grip", (0, -tall - 0.12, long - 0.1), (0.048, 0.16, 0.055), 0.02)
    parts.append(grip.turned(rotation("x", -draws.between(12, 28)), (0, -tall, long - 0.1)))
    z = draws.between(-0.16, -0.02)
    kind = draws.choose(curved=0.5, straight=0.4, drum=0.1)
    if kind == "drum":
        parts.append(disc("magazine", (0, -tall - 0.12, z), (1, 0, 0), draws.between(0.14, 0.18), 0.07))
    else:
        length = draws.between(0.12, 0.2)
        upper = box("magazine", (0, -tall - length * 0.5, z), (THIN, length * 0.6 + 0.03, 0.075), 0.015)
        parts.append(upper.turned(rotation("x", draws.between(0, 12)), (0, -tall, z)))
        if kind == "curved":
            lower = upper.moved(np.array([0, -length, -0.03]))
            parts.append(lower.turned(rotation("x", draws.between(15, 28)), (0, -tall - length, z - 0.03)))
    butt = draws.between(0.38, 0.55)
    if draws.chance(0.25):
        parts += [
            rod("stock", (0, tall * 0.4, long - 0.05), (0, tall * 0.3, long + butt), ROUND),
            rod("stock", (0, -tall * 0.5, long - 0.05), (0, -0.2, long + butt), ROUND),
            box("stock", (0, -0.06, long + butt), (half, 0.18, THIN), 0.02),
        ]
    else:
        drop = draws.between(0, 0.1)
        outline = [
            (tall * 0.7, long - 0.06),
            (-tall * 0.7, long - 0.06),
            (-drop - 0.2, long + butt),
            (0.08 - drop, long + butt),
        ]
        parts.append(plate("stock", outline, "yz", 0, half * 0.85))
    return parts


CATEGORIES: Mapping[str, Callable[[Draws], tuple[str, list[Part]]]] = {
    "airplane": airplane, "chair": chair, "table": table, "rifle": rifle,
}  # fmt: skip
