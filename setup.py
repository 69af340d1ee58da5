"""The long description: README.md, whose links and pictures get the addresses they have outside of the repository."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)\s]+)\)")


def absolute(link: "re.Match[str]") -> str:
    """A relative link of Markdown, led to the files of this version: a picture itself, of all else its page."""
    picture, text, path = link.groups()
    return f"{picture}[{text}]({PROJECT['urls']['Source']}/{'raw' if picture else 'blob'}/v{PROJECT['version']}/{path})"


setup(
    script_name="setup.py",  # so that it is not taken for a module of `assay`, in whose folder it lies
    long_description=LINK.sub(absolute, (ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
