"""Which generator opens a checkpoint: the content of the file says so."""

from pathlib import Path

from ..core.declarations import Entry
from ..core.registry import GENERATORS
from .checkpoint import Checkpoint, printable


def opener(path: str | Path, checkpoint: Checkpoint) -> Entry:
    """The generator that opens a checkpoint read from `path`.

    Raises ValueError when none does or several do, KeyError when the file says that it belongs to an unknown one.
    """
    if "family" in checkpoint.card:
        named: Entry = GENERATORS[checkpoint.card["family"]]
        if "path" not in named.options:
            raise ValueError(f"{path} says that it is of the family {named.name}, which opens no files")
        return named
    openers = {name: entry for name, entry in sorted(GENERATORS.items()) if entry.recognise}
    fitting: list[str] = [name for name, entry in openers.items() if entry.recognise(checkpoint.content)]
    if len(fitting) == 1:
        found: Entry = openers[fitting[0]]
        return found
    keys = checkpoint.card["keys"] or sorted(checkpoint.card.get("names", ()))
    top = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
    index = checkpoint.content.get("model_index.json") if checkpoint.card["format"] == "folder" else None
    kind = f"{printable(str(index.get('_class_name')))} " if isinstance(index, dict) else ""
    what = f"{path} ({kind}{checkpoint.card['format']} with {top or 'no names at its top'})"
    if fitting:
        choice = " or ".join(f"generator={name} generator.{name}.path={path}" for name in fitting)
        raise ValueError(f"{what} can be opened by {' and '.join(fitting)}; choose with {choice}")
    raise ValueError(f"no generator opens {what}; those that open files: {', '.join(openers) or 'none'}")
