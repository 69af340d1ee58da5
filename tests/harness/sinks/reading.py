"""What sinks have written, read back with their own readers."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass
class Offline:
    """A run in an offline file of wandb.

    summary: the last value of each name; history: the rows that were logged. tables: columns and rows by name;
    pictures: uint8 [H, W, 3] by name; files: contents of the files of artifacts, by artifact and name.
    """

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.run["config"]["update"]
        return found


def offline_runs(folder: Path) -> list[Offline]:
    """The runs below a folder in order of their names, by `wandb leet inspect`."""
    paths = [path for path in sorted(folder.rglob("*.wandb")) if path.is_file()]
    return sorted(map(_read, paths), key=lambda one: str(one.run.get("display_name")))


def _read(path: Path) -> Offline:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = Offline(path)
    for record in map(json.loads, lines):
        match record["type"]:
            case "run":
                found.run = record["run"]
            case "summary":
                found.summary |= record["summary"].get("update", {})
            case "history":
                found.history.append(record["history"]["item"])
            case "artifact" if record["artifact"]["type"] != "run_table":
                contents = record["artifact"]["manifest"]["contents"]
                files = {entry["path"]: Path(entry["local_path"]).read_bytes() for entry in contents}
                found.files[record["artifact"]["name"]] = files
            case "exit":
                found.exit_code = record["exit"].get("exit_code", 0)
    for row in found.history:
        for key, value in row.items():
            name, _, what = key.rpartition(".")
            if what == "path" and row.get(f"{name}._type") == "table-file":
                table = json.loads((path.parent / "files" / value).read_text())
                found.tables[name] = table["columns"], table["data"]
            elif what == "path" and row.get(f"{name}._type") == "image-file":
                with Image.open(path.parent / "files" / value) as picture:
                    found.pictures[name] = np.asarray(picture.convert("RGB"))
    return found


@dataclass
class Events:
    """What an event file of TensorBoard holds: numbers by name and step, texts by name, names of pictures."""

    numbers: dict[str, dict[int, float]]
    texts: dict[str, str]
    pictures: dict[str, list[int]]


def events(folder: Path) -> Events:
    """All events of one run, by TensorBoard's event_accumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    read = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0}).Reload()
    numbers: dict[str, dict[int, float]] = {}
    texts: dict[str, str] = {}
    for tag in read.Tags()["tensors"]:
        for event in read.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.dtype == object:
                texts[tag.removesuffix("/text_summary")] = value.ravel()[0].decode()
            else:
                assert value.dtype == np.float64
                numbers.setdefault(tag, {})[event.step] = float(value)
    pictures = {tag: [event.step for event in read.Images(tag)] for tag in read.Tags()["images"]}
    return Events(numbers, texts, pictures)
