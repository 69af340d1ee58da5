"""Whether the arrays in a store are those of their keys: `assay store verify`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ..arrays.store import fault, open_store


def main(arguments: Sequence[str]) -> int:
    """The command. Prints a line for each entry that is damaged; 1 where there is one."""
    parser = argparse.ArgumentParser(prog="assay store", description="Look after the arrays that runs keep.")
    verify = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "verify",
        help="check every entry of the store",
        description="Check that every array is the one whose checksum and key its card has, and that entries or cards "
        "were not exchanged. A line for each that is not, and exit code 1; runs make such entries again.",
    )
    verify.add_argument("store", type=Path, nargs="?", metavar="DIR", help="by default that of runs")
    given = parser.parse_args(list(arguments))
    root = given.store or open_store(os.environ.get("ASSAY_STORE")).root
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: there is no such store")
    found = sorted({path.with_suffix(".npy") for path in root.glob("??/[!.]*") if path.suffix in (".npy", ".json")})
    damaged = 0
    for path in found:
        if why := fault(path):
            damaged += 1
            print(f"{path}: {why}")
    print(f"{len(found):,} entries, {damaged:,} damaged")
    return 1 if damaged else 0
