"""The names of what `fine_tune` records, and the order in which generators are shown."""

from collections.abc import Iterable

UNTUNED, NOTHING = "untuned", "nothing"
"""The generator before; and what a number that is no difference is compared with."""
THESE = ", these trainings"
"""Behind what a number is compared with: its interval holds for the networks that were trained, and no others."""
COMMON = ("control", "curve", "halves", "plain_trainings", "samples_judged", "trainer")
"""Settings that all parts of one call of the study share."""
TRIED = "tried_for_one"
"""Of the course of a training: samples that were tried for one that was accepted."""


def in_order(tunings: Iterable[str], control: str) -> list[str]:
    """The untuned generator, the control, the others by name."""
    return [UNTUNED, control, *sorted(set(tunings) - {UNTUNED, control})]
