"""What an interval decides: the words in which every study says whether a claim holds."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..stats.families import HOLM, LEVEL
from .typeset import estimate

HOLDS, OPPOSITE, UNDECIDED = "holds", "does not hold, the opposite is seen", "not decided"
CORRECTED = " after Holm's correction"
"""Behind the words for what is not decided although the interval beside them leaves out the null."""


class Number(Protocol):
    """A row of a table: its value and the ends of its interval; `holm_p` where it is one of a family."""

    value: float
    low: float
    high: float


def side(row: Number, null: float = 0.0) -> Literal[-1, 0, 1]:
    """1 where the whole interval lies above `null`, -1 where it lies below, 0 for neither."""
    return 1 if row.low > null else -1 if row.high < null else 0


def sign(row: Number, null: float = 0.0) -> Literal[-1, 0, 1]:
    """What is decided: the side of the interval; 0 where the correction for the other comparisons takes it back."""
    taken_back = getattr(row, HOLM, 0.0) > LEVEL
    return 0 if taken_back else side(row, null)


@dataclass(frozen=True)
class Verdict:
    """A claim about the sign of an effect, what is decided of it, and the numbers behind it.

    direction: 1 where the claim is that the effect is above 0, -1 below. words: for a claim that holds, whose opposite
    is seen, and that is not decided. more: further sentences about the same claim.
    """

    claim: str
    effect: Number
    direction: Literal[-1, 1] = 1
    words: tuple[str, str, str] = (HOLDS, OPPOSITE, UNDECIDED)
    more: Sequence[str] = ()

    @property
    def decided(self) -> int:
        """1 where the claim holds, -1 where the opposite is seen, 0 where it is not decided."""
        return self.direction * sign(self.effect)

    @property
    def decision(self) -> str:
        decided = self.decided
        taken_back = CORRECTED if not decided and side(self.effect) else ""
        return {1: self.words[0], -1: self.words[1], 0: self.words[2]}[decided] + taken_back

    def __str__(self) -> str:
        """E.g. "w > 1 raises precision: holds, 0.035 (0.016 to 0.051)."; then what else there is to say."""
        return ". ".join([f"{self.claim}: {self.decision}, {estimate(self.effect)}", *self.more]) + "."


@dataclass(frozen=True)
class Finding:
    """The same sentence about several names of scores: "{fall|falls}" of a and b is "a, b: fall.".

    says: with both forms of its verbs, that for several names and that for one; see `agreeing`.
    """

    names: Sequence[str]
    says: str

    def __str__(self) -> str:
        return f"{', '.join(self.names)}: {self._agreed}."

    @property
    def _agreed(self) -> str:
        return agreeing(self.says, len(self.names))

    @property
    def sentence(self) -> str:
        """Without the names: "2 scores fall with some signals."."""
        return str(self) if len(self.names) == 1 else f"{len(self.names)} scores {self._agreed}."

    @property
    def families(self) -> str:
        """The names; of several settings of one score its name without options, and how many they are."""
        counts = Counter(map(_family, self.names))
        shown = (f"{_family(name)} ({counts[_family(name)]} settings)" if counts[_family(name)] > 1 else name
                 for name in self.names)  # fmt: skip
        return ", ".join(dict.fromkeys(shown))

    @property
    def short(self) -> str:
        """For a terminal; the page opens all names at a click."""
        return f"{self.families}: {self._agreed}."


def agreeing(says: str, count: int) -> str:
    """Words of which "{fall|falls}" has two forms, in that for so many names: the second for one, else the first."""
    return re.sub(r"\{([^{|}]*)\|([^{|}]*)\}", r"\2" if count == 1 else r"\1", says)


def _family(name: str) -> str:
    return name.partition("(")[0].strip()
