"""What a pickle may hold: inert records for the names in it, keys that are cheap to hash, nothing that is deep."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

DEEP = 400
"""Most containers inside one another; a module in a module is three of them."""
COLLISIONS = 5000
"""Most keys of a file that have the hash of another one; -1 and -2 are such a pair."""
PARTS = 1000
"""Most parts of a key that is a tuple."""


class Inert:
    """The object that stands for a name without a replacement. It does nothing except store what the pickle gives it.

    name:   qualified name in the file; for a record of `torch_utils.persistence`, the name of its class.
    args:   positional arguments of the constructor; kwargs: keyword arguments.
    state:  what the pickle would have set as its attributes, usually a dictionary; None if nothing.
    items:  what the pickle appended to it, and the (key, value) pairs that it set in it.
    """

    __slots__ = ("args", "items", "kwargs", "state")
    name = ""

    def __init__(self, args: Any = (), kwargs: Any = None):
        self.args, self.kwargs = args, kwargs or {}
        self.state: Any = None
        self.items: list[Any] = []

    def __repr__(self) -> str:
        return f"<inert {self.name}>"


NUMBERS = (int, float, complex)
KEYS = (*NUMBERS, str, bytes, type(None), type, Inert, torch.dtype, tuple)


class Keys:
    """Lets only keys through that cost little to hash and to compare.

    Hashing a tuple is recursive, so a deep one would end the process, and it is done again at each use; `work` counts
    its parts. Hashes of numbers and of tuples of numbers are not secret: a file can choose 100,000 of them that are
    equal, and a dictionary of n such keys takes n² comparisons. Hashes of text differ from process to process.
    """

    def __init__(self, work: Callable[[int], None]):
        self._work = work
        self._first: dict[int, Any] = {}
        self._collisions = 0

    def __call__(self, value: Any) -> Any:
        """The key. Raises ValueError when it may not be one."""
        waiting, count = [value], 0
        while waiting:
            part = waiting.pop()
            count += 1
            if count > PARTS:
                raise ValueError(f"a key of more than {PARTS} parts")
            if not isinstance(part, KEYS):
                raise ValueError(f"a key that is a {type(part).__name__}")
            if isinstance(part, int) and part.bit_length() > 64:
                raise ValueError("a key that is a number of more than 64 bits")
            if isinstance(part, tuple):
                waiting += part[: PARTS + 1]
        self._work(count)
        if isinstance(value, (*NUMBERS, tuple)):
            first = self._first.setdefault(hash(value), value)
            if first is not value and first != value:
                self._collisions += 1
                if self._collisions > COLLISIONS:
                    raise ValueError(f"more than {COLLISIONS:,} keys with the hash of another one")
        return value


def text(value: Any) -> str:
    """A name of at most 1000 characters, which old pickles store as bytes. Raises ValueError for anything else."""
    if not isinstance(value, str | bytes) or len(value) > 1000:
        raise ValueError(f"a {type(value).__name__} in place of a name, or a name of more than 1000 characters")
    return value.decode("latin1") if isinstance(value, bytes) else value


def require_shallow(content: Any) -> None:
    """Raises ValueError where more than DEEP containers are inside one another, so that recursion over them may end.

    A container that is inside itself is not followed again: those who look into modules count them.
    """
    heights = {id(content): 0}  # of a container on the way down 0, so that a cycle ends there
    path = [(content, _inside(content))]
    tallest = [0]
    while path:
        value, rest = path[-1]
        child = next(rest, None)
        if child is None:
            heights[id(value)] = height = tallest.pop() + 1
            path.pop()
            if path:
                tallest[-1] = max(tallest[-1], height)
        elif id(child) in heights:
            tallest[-1] = max(tallest[-1], heights[id(child)])
        else:
            heights[id(child)] = 0
            path.append((child, _inside(child)))
            tallest.append(0)
        if path and len(path) + tallest[-1] > DEEP:
            raise ValueError(f"more than {DEEP} containers are inside one another")


def _inside(value: Any) -> Iterator[Any]:
    """The containers directly in a value."""
    parts: Iterable[Any] = ()
    if isinstance(value, Inert):
        parts = (value.args, value.kwargs, value.state, value.items)
    elif isinstance(value, OrderedDict):
        parts = (*value.values(), getattr(value, "_metadata", None))
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    return (part for part in parts if isinstance(part, dict | list | tuple | Inert))
