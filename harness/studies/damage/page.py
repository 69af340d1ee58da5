"""What `damage` found: the smallest share of each damage that each metric notices, and which of them are fooled."""

from collections.abc import Iterator

import pandas as pd

from ...report.blocks import Block, Found, Grid, Heading, Text, Verdicts, numbers
from ...report.verdict import agreeing
from .faults import SLIPS
from .sets import COPIES, DETECTED

NOTICE = "{notice|notices}"


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("damage_summary", "features", "size"):
        run = f"{about['run']}: {about['size']:,} samples, features {about['features']}"
        yield Heading(run)
        yield Verdicts(list(_lines(part)), run)
        every = list(part.damage.unique())
        metrics = list(part.metric.unique())
        for number, text in (
            ("smallest share", "Smallest share that is noticed with probability 0.8; none where it never is"),
            ("change", "Change at the largest share, in deviations of sound samples; below 0 is worse"),
        ):
            damages = [damage for damage in every if number == "change" or damage not in SLIPS]
            rows = part[part.number == number]
            yield Text(text)
            yield Grid("metric", metrics, damages, numbers(rows, "metric", "damage"), caption=f"{run}: {number}")


def _lines(part: pd.DataFrame) -> Iterator[str]:
    smallest = part[part.number == "smallest share"]
    for damage, rows in smallest.groupby("damage", sort=False):
        known = rows[rows.value.notna()]
        notice = agreeing(f"{len(known)} of {len(rows)} metrics {NOTICE} it", len(known))
        if damage in SLIPS:
            yield f"{damage}: {notice}, where all samples suffer from it"
        elif len(known):
            best = known.loc[known.value.idxmin()]
            yield f"{damage}: {notice}; {best.metric} the smallest share, {best.value:.2g}"
        else:
            yield f"{damage}: none of {len(rows)} metrics notices it"
    copies = part[(part.damage == COPIES) & (part.number == "change")]
    fooled = copies[copies.value > DETECTED]
    rate = agreeing("{rate|rates} nothing but copies better than other real samples", len(fooled))
    yield f"{COPIES}: {len(fooled)} of {len(copies)} metrics {rate}"
