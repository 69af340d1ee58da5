"""What `costs` found: a table of scores by what they cost."""

from collections.abc import Iterator

from ...report.blocks import Block, Found, Grid, Heading, numbers

MAKING = "making the sample"
CALLS, SECONDS = "generator calls a sample", "seconds a sample"
CALLS_ONCE, SECONDS_ONCE = "generator calls once", "seconds once"


def page(found: Found) -> Iterator[Block]:
    for about, part in found.parts("costs", "count", "measured_on"):
        yield Heading(f"{about['run']}: what a score costs on the {about['measured_on']}")
        columns = {quantity: quantity for quantity in (CALLS, SECONDS, CALLS_ONCE, SECONDS_ONCE)}
        yield Grid("score", list(part.score.unique()), columns, numbers(part, "score", "quantity"))
