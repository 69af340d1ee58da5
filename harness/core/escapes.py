"""Text that may be anybody's, made safe for where it goes: a terminal, a csv file, Markdown, LaTeX, JSON, HTML.

Labels, names of files and errors come from records and folders of other people.
"""

import re
import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Kinds of characters that a reader does not see: controls, marks of direction, halves of pairs, ends of lines."""
JOINERS = "\t\u200c\u200d"
"""Of these, what ordinary text needs."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings that a spreadsheet takes for a formula."""
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}
LATIN = re.compile("[À-ÏÑ-ÖØ-Ýß-ïñ-öø-ýÿ]")
"""Letters beyond ASCII that LaTeX reads without a package."""


def in_one_line(text: str) -> str:
    """The lines of a text behind each other, and what cannot be seen in it as its code: "\\x1b" for an escape."""
    return "".join(map(_seen, " ".join(text.splitlines())))


def for_terminal(text: str) -> str:
    """Lines of text for people: nothing in them moves the cursor, colours, or rings."""
    return "\n".join("".join(map(_seen, line)) for line in text.split("\n"))


def _seen(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS or unicodedata.category(letter) not in HIDDEN:
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def for_json(text: str) -> str:
    """Text that can be written as UTF-8: bytes of a file's name that are none stand as their code."""
    return "".join(_seen(letter) if "\ud800" <= letter <= "\udfff" else letter for letter in text)


def for_csv(text: str) -> str:
    """Text for a csv file, which a spreadsheet would take for a formula, with an apostrophe before it; no number."""
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def for_markdown(text: str) -> str:
    """Any text in one line of Markdown: nothing in it ends a line, parts cells of a table, or makes a tag or link."""
    escaped = re.sub(r"[\\|]", r"\\\g<0>", in_one_line(text))
    escaped = re.sub(r"\](?=[(\[:])", r"\]", escaped)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", escaped)


def for_latex(text: str) -> str:
    """Any text in one cell of LaTeX, for the fonts that it has without a package: other letters as "U+2192".

    The end of a row would take an asterisk or a bracket at the beginning of the next one for its own.
    """
    escaped = re.sub("-(?=-)", "-{}", "".join(map(_in_latex, in_one_line(text))))
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


def _in_latex(letter: str) -> str:
    if letter.isascii() or LATIN.fullmatch(letter):
        return LATEX.get(letter, letter)
    return f"U+{ord(letter):04X}"
