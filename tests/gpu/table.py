"""The rows of the GPU check, and the page that they make."""

import csv
import platform
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("numpy", "scipy", "scikit-learn", "faiss-gpu", "faiss-cpu", "diffusers", "transformers")
"""Their versions are told, where they are installed."""
COLUMNS = ("part", "what", "cpu_size", "cpu", "gpu_size", "gpu", "bound")


@dataclass(frozen=True)
class Row:
    """What was measured, and on how much: a number from the CPU and one from the GPU; None where there is none.

    bound: the number of the GPU is at most, or with `least` at least, this; None if it may be anything.
    """

    what: str
    cpu_size: str
    cpu: float | None
    gpu_size: str = ""
    gpu: float | None = None
    bound: float | None = None
    least: bool = False

    @property
    def broken(self) -> bool:
        if self.gpu is None or self.bound is None:
            return False
        return not (self.gpu >= self.bound if self.least else self.gpu <= self.bound)


@dataclass(frozen=True)
class Part:
    """A table: its title, what its numbers are, and its rows."""

    title: str
    about: str
    rows: list[Row]


def machine(device: torch.device | None) -> str:
    """Device and versions, in a line each; nothing that changes from run to run on one machine."""
    lines = [f"- CPU: {platform.machine()}, {torch.get_num_threads()} threads"]
    if device is None:
        lines.append("- GPU: none. The GPU columns are empty because there was no CUDA device.")
    else:
        found = torch.cuda.get_device_properties(device)
        lines.append(
            f"- GPU: {found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}"
        )
    about = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    if torch.version.cuda:
        about += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    return "\n".join([*lines, f"- {', '.join([*about, *_versions()])}"])


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def write(folder: Path, parts: Mapping[str, Part], device: torch.device | None) -> Path:
    """gpu.csv and gpu.md; returns the path of the second."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gpu.csv").open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for name, part in parts.items():
            for row in part.rows:
                lines.writerow(
                    [name, row.what, row.cpu_size, _told(row.cpu), row.gpu_size, _told(row.gpu), _bound(row)]
                )
    page = folder / "gpu.md"
    page.write_text("\n".join(["# On a GPU", "", machine(device), *map(_table, parts.values())]) + "\n")
    return page


def _table(part: Part) -> str:
    bounded, sizes = any(row.bound is not None for row in part.rows), any(row.gpu_size for row in part.rows)
    size = ["CPU: size", "CPU", "GPU: size", "GPU"] if sizes else ["size", "CPU", "GPU"]
    heads = ["what", *size, *(["bound"] if bounded else [])]
    lines = [heads, ["---"] * len(heads)]
    for row in part.rows:
        cells = [row.what, row.cpu_size, _told(row.cpu), *([row.gpu_size] if sizes else []), _told(row.gpu)]
        lines.append([*cells, *([_bound(row)] if bounded else [])])
    table = [f"| {' | '.join(line)} |" for line in lines] if part.rows else []
    return "\n".join(["", f"## {part.title}", "", textwrap.fill(part.about, 118), "", *table])


def _bound(row: Row) -> str:
    return "" if row.bound is None else f"{'at least' if row.least else 'at most'} {row.bound:g}"


def _told(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.5g}" if 0.99 <= number <= 1 else f"{number:.3g}"
