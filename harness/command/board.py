"""`assay board`: results folders in one leaderboard."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..core.progress import say
from ..core.registry import discover
from ..report.board import gather, write_board


def main(arguments: Sequence[str]) -> int:
    """Prints what is kept apart, and where the page is. Writes nothing in the folders that it reads."""
    parser = argparse.ArgumentParser("assay board", description="Gather results folders into one page and table.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a folder with records, anybody's")
    parser.add_argument("--out", type=Path, default=Path("outputs/board"), help="where the page goes (outputs/board)")
    asked = parser.parse_args(arguments)
    discover()
    found = gather(asked.folders)
    if any(asked.out.resolve().is_relative_to(folder.path.resolve()) for folder in found.folders):
        raise ValueError(f"--out {asked.out} lies in a folder that is read; choose another")
    apart = write_board(found, asked.out)
    for group in found.groups:
        if not group.reasons:
            made = found.board(group)
            print(f"{group.dataset}: {len(made.lines):,} rows, {len(made.columns)} numbers each")
    if found.evidence.rows:
        print(f"metrics put to the test: {len(found.evidence.rows):,}, in {asked.out / 'metrics.csv'}")
    for line in apart:
        say(f"kept apart: {line}")
    print(f"page: {asked.out / 'board.html'}")
    return 0
