"""What `costs` found: a table of scores by what they cost."""

from collections.abc import Iterator

from ...report.blocks import Block, Found, Grid, Heading, numbers

MAKING = "making the sample"
CALLS, SECONDS = "generator calls a sample", "seconds a sample"
CALLS_ONCE, SECONDS_ONCE = "generator calls once", "seconds once"


def page(found: Found) -> Iterator[Block]:
    table = found.tables["costs"]
    if table.run.nunique() > 1:
        for quantity in (CALLS, SECONDS):
            part, caption = table[table.quantity == quantity], f"{quantity}, of each network"
            yield Heading(caption.capitalize())
            cells = numbers(part, "score", "run")
            yield Grid("score", list(part.score.unique()), list(part.run.unique()), cells, caption=caption)
    for about, part in found.parts("costs", "count", "measured_on"):
        yield Heading(f"{about['run']}: what a score costs on the {about['measured_on']}")
        columns = {quantity: quantity for quantity in (CALLS, SECONDS, CALLS_ONCE, SECONDS_ONCE)}
        yield Grid("score", list(part.score.unique()), columns, numbers(part, "score", "quantity"))
