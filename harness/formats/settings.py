"""Settings beside weights, JSON and YAML of other people: regular files, of bounded size and depth, finite numbers."""

import json
import math
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

JSON, YAML = 2**27, 2**18
"""Most bytes of a JSON file, such as the index of a large model or a vocabulary, and of a YAML file, which is slow."""
UNLIMITED = ("lambda_min_clipped", -math.inf)
"""A setting of schedulers of diffusers that is infinite by default."""
DEEP = 100
"""Most lists and mappings inside one another."""


def read_json(file: Path, finite: bool = True) -> Any:
    """What is in a JSON file.

    Raises ValueError, in one line with the file, where it is no regular file, no JSON, deep, or, with `finite`, where a
    number is NaN or infinite.
    """
    return parse_json(_content(file, JSON), file, finite)


def parse_json(content: str | bytes, source: object, finite: bool = True) -> Any:
    """What a JSON text from `source` says; with the errors of `read_json`."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is no JSON ({_line(error)})") from None
    require_plain(found, source, finite)
    return found


def read_settings(file: Path) -> dict[str, Any]:
    """A mapping from a JSON or YAML file, in which numbers such as 1e-4 are numbers.

    Raises ValueError, in one line with the file, where it holds no mapping, has NaN or infinity, or uses aliases, with
    which 500 bytes may stand for more than any memory holds.
    """
    content = _content(file, YAML)
    try:
        depth = 0
        for event in yaml.parse(content):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"it uses the alias *{event.anchor}; write out what it stands for")
            if depth > DEEP:
                raise ValueError(f"more than {DEEP} lists and mappings are inside one another")
        found = OmegaConf.to_container(OmegaConf.create(content.decode()))
    except Exception as error:  # yaml and omegaconf raise many
        raise ValueError(f"{file} holds no settings in JSON or YAML ({_line(error)})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no settings in JSON or YAML (it is no mapping)")
    require_plain(found, file)
    return {str(name): value for name, value in found.items()}


def _content(file: Path, most: int) -> bytes:
    """The bytes of a regular file: a device or a pipe may have no end."""
    if not file.is_file():
        raise ValueError(f"{file} {'is no regular file' if file.exists() else 'does not exist'}")
    with file.open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{file} has more than {most:,} bytes")
    return content


def require_plain(found: Any, source: object, finite: bool = True) -> None:
    """Raises ValueError where a number is not finite, with its name, or where something is deep."""
    level, depth = [("", found)], 0
    while level:
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if finite and isinstance(value, float) and not math.isfinite(value) and (name, value) != UNLIMITED:
                raise ValueError(f"{source} has {name or 'a number'}={value}; give a finite number")
            if isinstance(value, dict):
                below += [(str(key)[:100], part) for key, part in value.items()]
            elif isinstance(value, list):
                below += [(name, part) for part in value]
        level, depth = below, depth + 1
        if depth > DEEP:
            raise ValueError(f"{source} has more than {DEEP} lists and mappings inside one another")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
