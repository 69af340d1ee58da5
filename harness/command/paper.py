"""`assay paper`: tables of a results folder for a paper, in LaTeX."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..arrays.records import read_records
from ..core.progress import say
from ..core.registry import discover
from ..report.paper.files import DESCRIBED, described, write_paper


def main(arguments: Sequence[str]) -> int:
    """Prints the files that it writes; 1 where a table cannot be made of these records."""
    parser = argparse.ArgumentParser(
        "assay paper",
        description="Write DIR/paper/NAME.tex for each table that a YAML file describes (docs/papers.md), and NAME.csv "
        "where a paper prints numbers beside ours. The records are read, nothing is computed.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder with records")
    parser.add_argument(
        "description", type=Path, nargs="?", metavar="FILE.yaml",
        help=f"what the tables show; by default that of an experiment with the folder's name, in {DESCRIBED}",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go, by default DIR/paper")
    asked = parser.parse_args(arguments)
    discover()
    records = read_records(asked.folder)
    description = asked.description or described(asked.folder)
    if not description.is_file():
        known = ", ".join(sorted(path.stem for path in DESCRIBED.glob("*.yaml")))
        what = (
            f"{description}: there is no such file"
            if asked.description
            else (f"no tables are described for a folder called {description.stem} (only for {known})")
        )
        raise FileNotFoundError(f"{what}; write what the tables show to a file of your own (docs/papers.md)")
    written = write_paper(asked.folder, records, description, asked.out)
    for path in written.paths:
        print(path)
    for line in written.refused:
        say(line)
    return 1 if written.refused else 0
