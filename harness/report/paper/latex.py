"""Tables for papers in LaTeX: booktabs alone, numbers in math, what comes from records as text."""

import re
from collections.abc import Sequence
from itertools import groupby

from ...core.escapes import for_latex

ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
NAMES = re.compile(r"\\(?:cite[a-z]*|[cC]?ref|eqref|autoref|label|url)\*?(?:\[[^\]]*\])*\{[^{}]*\}")
"""Commands whose argument is a name, not text."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def fault(text: str) -> str:
    """What is wrong with LaTeX that somebody wrote for a cell or a caption; "" where nothing is."""
    text = re.sub(r"\\[&%$#_{}]", "", NAMES.sub("", text))
    depth = 0
    for letter in re.sub(r"[^{}]", "", text):
        depth += 1 if letter == "{" else -1
        if depth < 0:
            return "a } closes nothing"
    if depth:
        return "a { is not closed"
    if text.count("$") % 2:
        return "a $ is not closed; \\$ is the sign itself"
    for letter in "&%#":
        if letter in text:
            return f"write \\{letter} for {letter}"
    if r"\\" in text:
        return r"\\ would end the row"
    for letter in "_^":
        if letter in re.sub(r"\$[^$]*\$", "", text):
            return (
                f"{letter} stands outside of $...$; \\{letter} is the sign itself"
                if letter == "_"
                else ("^ stands outside of $...$")
            )
    return ""


def decimal(value: float, digits: int) -> str:
    """A number for math mode, with so many digits behind the point; zero has no sign."""
    if value in (float("inf"), float("-inf")):
        return r"\infty" if value > 0 else r"-\infty"
    return re.sub(r"^-(0(\.0*)?)$", r"\1", f"{value:.{digits}f}")


def spread(value: float, low: float, high: float, digits: int, brackets: bool = False) -> str:
    """What follows the number: ± the longer side of the interval where both sides are equal but for one in the last
    digit, else both sides. Brackets with the ends where these are asked for, or the number lies outside of them.
    """
    above, below = decimal(high - value, digits), decimal(value - low, digits)
    if brackets or not low <= value <= high or "infty" in above + below:
        return rf"{{\scriptstyle\;[{decimal(low, digits)}, {decimal(high, digits)}]}}"
    if abs(float(above) - float(below)) < 1.5 * 10.0**-digits:
        return rf"{{\scriptstyle\,\pm\,{max(above, below, key=float)}}}"
    return f"{{}}^{{+{above}}}_{{-{below}}}"


def line(cells: Sequence[str]) -> str:
    """A row. An asterisk or a bracket at its beginning would belong to the end of the row above."""
    first, *rest = cells
    return " & ".join(["{}" + first if first.startswith(("[", "*")) else first, *rest]) + r" \\"


def heads(columns: Sequence[Sequence[str]], heading: Sequence[str]) -> list[str]:
    """Lines of titles above the columns, which have as many levels each; groups span their columns."""
    lines = []
    for level in range(len(columns[0]) - 1):
        cells, rules, at = [""] * len(heading), list[str](), len(heading) + 1
        for prefix, group in groupby(titles[: level + 1] for titles in columns):
            width = len(list(group))
            title = prefix[-1]
            cells += [rf"\multicolumn{{{width}}}{{c}}{{{title}}}"] if title else [""] * width
            rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if title else []
            at += width
        lines += [line(cells), " ".join(rules)]
    return [*lines, line([*heading, *(titles[-1] for titles in columns)])]


def letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    before = letter(index // len(LETTERS) - 1) if index >= len(LETTERS) else ""
    return before + LETTERS[index % len(LETTERS)]


def escaped(text: str, most: int = 300) -> str:
    """Text of a record, in one line, cut where it is long."""
    return for_latex(text if len(text) <= most else text[: most - 3] + "...")
