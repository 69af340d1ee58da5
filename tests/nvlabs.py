"""Writers of files in other people's layouts, for tests: pickles that name classes nobody here has.

    dump(path, {"G_ema": record("Generator", tensors, {"z_dim": 8}, buffers={"w_avg"})})            # NVlabs
    dump(path, {"G_ema": plain("pg_modules.networks_fastgan.Generator", tensors, img_resolution=16)})  # classes by name
    save(path, {"state_dict": tensors, "callbacks": {named("some.library.Callback"): 1}})           # torch.save

A name is a class by this file only while it is written; a reader that imports what a pickle names finds nothing.
"""

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SOURCE = 'raise RuntimeError("embedded module source was executed")\n'
"""What a record carries as the text of its module: a reader that runs it fails."""
_NAMED: dict[str, Any] = {}


def named(name: str) -> type[Any]:
    """A class whose pickles say `name`."""
    if name not in _NAMED:
        module, _, short = name.rpartition(".")
        _NAMED[name] = type(short, (), {"__module__": module, "__qualname__": short})
    found: type[Any] = _NAMED[name]
    return found


def instance(name: str, /, **state: Any) -> Any:
    """An object of class `name` with these attributes."""
    made = named(name)()
    made.__dict__.update(state)
    return made


class EasyDict(dict[str, Any]):
    __module__ = "dnnlib.util"


def _reconstruct_persistent_obj(meta: EasyDict) -> Any:
    """What the official reader does first: run the text in the file."""
    exec(meta["module_src"], {})
    return meta


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
_NAMED["dnnlib.util.EasyDict"] = EasyDict
_NAMED["torch_utils.persistence._reconstruct_persistent_obj"] = _reconstruct_persistent_obj


class _Persistent:
    def __init__(self, meta: EasyDict):
        self.meta = meta

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


def persistent(class_name: str, state: Mapping[str, Any], source: str = SOURCE) -> Any:
    """One object as NVlabs' persistence writes it: class name, state, and the text of the Python file it came from."""
    return _Persistent(EasyDict(type="class", version=6, module_src=source, class_name=class_name, state=dict(state)))


def tree(tensors: Mapping[str, Tensor], make: Callable[[str, dict[str, Any]], Any], buffers: Collection[str]) -> Any:
    """Modules nested as the dotted names of a state dict say.

    make(path, state) turns the state of the module at `path` ("" for the whole) into an object. buffers: the last parts
    of the names that are no parameters.
    """

    def build(path: str) -> Any:
        inside = {name.removeprefix(path): t for name, t in tensors.items() if name.startswith(path)}
        own = {name: t for name, t in inside.items() if "." not in name}
        children = list(dict.fromkeys(name.split(".")[0] for name in inside if "." in name))
        state = {
            "training": False,
            "_parameters": OrderedDict((name, nn.Parameter(t)) for name, t in own.items() if name not in buffers),
            "_buffers": OrderedDict((name, t) for name, t in own.items() if name in buffers),
            "_modules": OrderedDict((child, build(f"{path}{child}.")) for child in children),
        }
        return make(path.removesuffix("."), state)

    return build("")


def record(
    class_name: str,
    tensors: Mapping[str, Tensor],
    init_kwargs: Mapping[str, Any],
    buffers: Collection[str] = (),
    classes: Mapping[str, str] | None = None,
    source: str = SOURCE,
) -> Any:
    """A network in the NVlabs layout; `classes` names the classes of the modules inside, by their path."""

    def make(path: str, state: dict[str, Any]) -> Any:
        kwargs = EasyDict(init_kwargs) if not path else EasyDict()
        name = class_name if not path else (classes or {}).get(path, "Layer")
        return persistent(name, {**state, "_init_args": (), "_init_kwargs": kwargs}, source)

    return tree(tensors, make, buffers)


def plain(
    name: str,
    tensors: Mapping[str, Tensor],
    /,
    buffers: Collection[str] = (),
    inside: str = "blocks.Layer",
    **state: Any,
) -> Any:
    """A network as a plain pickle of modules has it: class `name` with attributes `state`, class `inside` within."""

    def make(path: str, own: dict[str, Any]) -> Any:
        return instance(inside, **own) if path else instance(name, **own, **state)

    return tree(tensors, make, buffers)


@contextmanager
def importable() -> Iterator[None]:
    """Inside, an import finds what has been named so far."""
    before = dict(sys.modules)
    for name, thing in _NAMED.items():
        module, _, short = name.rpartition(".")
        parts = module.split(".")
        for i in range(1, len(parts)):
            sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(parts[0]))
        if sys.modules.get(module) is before.get(module):
            sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], short, thing)
    try:
        yield
    finally:
        for name in {name.rpartition(".")[0] for name in _NAMED}:
            while name:
                if name in before:
                    sys.modules[name] = before[name]
                else:
                    sys.modules.pop(name, None)
                name = name.rpartition(".")[0]


def dumps(content: Any, protocol: int = 4) -> bytes:
    """The bytes of a plain pickle."""
    with importable():
        return pickle.dumps(content, protocol)


def dump(path: Path, content: Any, protocol: int = 4) -> Path:
    """Write a plain pickle."""
    path.write_bytes(dumps(content, protocol))
    return path


def save(path: Path, content: Any, legacy: bool = False) -> Path:
    """Write with torch.save: a zip archive, or the format before it."""
    with importable():
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
