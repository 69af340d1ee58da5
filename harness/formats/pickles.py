"""Read pickles without importing or calling anything that they name.

A pickle is a program that names functions and calls them. `Reader` executes its instructions itself. It replaces a few
names in its table by functions of this file, and every other name by an inert record that only stores its arguments.
Small files can crash a process with deep tuples, shared lists and false lengths. So the reader never hashes, prints,
compares or copies anything to a depth or size that the file chooses, and counts what a file costs: instructions, bytes,
and every time that a tensor is used.
"""

import hashlib
import io
import pickletools
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from . import storages
from .inert import Inert, Keys, text
from .storages import STORAGES, NumpyType, Storage

INSTRUCTIONS = 5_000_000
"""Maximum number of instructions in all pickles of a file together; a state dict has about 30 per tensor."""
LEGACY = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""The magic number of torch files older than the zip format; it follows the header of a pickle."""
NESTED = 4
"""Most torch files inside one another. NVIDIA's pickles hold each tensor as one."""


class _Replacement:
    """A function of this file that a pickle may call; no instruction can change it."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function


class Reader:
    """Reads the pickles of one file.

    room:    bytes that the objects may take in addition to literals. Exceeding it raises ValueError.
    stored:  resolves the persistent ids of a pickle, which are references to storages elsewhere in the file.
    names:   the names without a replacement, and how often each occurred.
    sources: sha256 of embedded source text -> names that it defines.
    """

    def __init__(self, room: int, stored: Callable[[Any], Any] | None = None):
        self.room, self.stored = room, stored
        self.names: Counter[str] = Counter()
        self.sources: defaultdict[str, set[str]] = defaultdict(set)
        self.key = Keys(self.work)
        self._left, self._depth = INSTRUCTIONS, 0
        self._digests: dict[str, str] = {}
        self._classes: dict[str, type[Inert]] = {}
        array = partial(storages.array, self.spend)
        numpy = {
            "multiarray.scalar": _Replacement(lambda dtype, content: array(content, dtype, (), "C").item()),
            "multiarray._reconstruct": _Replacement(lambda *_: np.empty(0, np.uint8)),
            "numeric._frombuffer": _Replacement(array),
        }
        python = {
            "set": _Replacement(self._set),
            "frozenset": _Replacement(lambda items=(): frozenset(self._set(items))),
            "bytes": _Replacement(lambda: b""),
        }
        self._replacements: dict[str, Any] = {
            "collections.OrderedDict": _Replacement(self._ordered),
            "torch_utils.persistence._reconstruct_persistent_obj": _Replacement(self._persistent),
            "torch._utils._rebuild_parameter": _Replacement(lambda data, *_: data),
            "torch._utils._rebuild_parameter_with_state": _Replacement(lambda data, *_: data),
            "torch._utils._rebuild_tensor": _Replacement(self._tensor),
            "torch._utils._rebuild_tensor_v2": _Replacement(self._tensor),
            "torch._utils._rebuild_tensor_v3": _Replacement(self._tensor_v3),
            "torch._tensor._rebuild_from_type_v2": _Replacement(
                lambda function, _, args, __: self._call(function, args)
            ),
            "torch.storage._load_from_bytes": _Replacement(self._nested),
            "torch.Size": _Replacement(lambda items=(): tuple(self._listed(items))),
            "_codecs.encode": _Replacement(lambda content, *_: storages.encoded(self.spend, content)),
            "dnnlib.util.EasyDict": _Replacement(self._dictionary),
            "dnnlib.EasyDict": _Replacement(self._dictionary),
            "dill._dill._load_type": _Replacement(lambda name: self._find("builtins", text(name))),
            "dill._dill._create_array": _Replacement(self._dill_array),
            "numpy.dtype": _Replacement(NumpyType),
            "numpy.ndarray": np.ndarray,
            **{f"{module}.{name}": value for module in ("builtins", "__builtin__") for name, value in python.items()},
            **{f"{module}.{name}": value for module in ("numpy.core", "numpy._core") for name, value in numpy.items()},
        }

    def spend(self, size: int) -> None:
        """Subtract `size` bytes from the remaining room. Raises ValueError when there is not enough."""
        self.room -= size
        if self.room < 0:
            raise ValueError("its objects would take far more memory than the file has bytes")

    def work(self, steps: int = 1) -> None:
        """Count steps that take about the time of an instruction. Raises ValueError when there were too many."""
        self._left -= steps
        if self._left < 0:
            raise ValueError(f"it has more than {INSTRUCTIONS:,} instructions")

    def source(self, content: Any, name: Any) -> str:
        """The sha256 of an embedded source text, which defines `name`; both are recorded in `sources`."""
        if isinstance(content, bytes):
            content = self._decode(content)
        if not isinstance(content, str):
            raise ValueError("an embedded source that is not text")
        if content not in self._digests:
            self._digests[content] = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
        self.sources[self._digests[content]].add(text(name))
        return self._digests[content]

    # Names and calls.

    def _find(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        full = f"{module}.{name}"
        if full in self._replacements:
            return self._replacements[full]
        self.names[full] += 1
        return self._inert(full)

    def _inert(self, name: str) -> type[Inert]:
        if name not in self._classes:
            self.spend(2000)
            self._classes[name] = type("Inert", (Inert,), {"name": name, "__slots__": ()})
        return self._classes[name]

    def _call(self, function: Any, args: Any, kwargs: Any = None) -> Any:
        if not isinstance(args, tuple | list) or not isinstance(kwargs, dict | None):
            raise ValueError("a call whose arguments are not a tuple")
        self.spend(8 * len(args))
        if isinstance(function, _Replacement):
            return function.function(*args, **(kwargs or {}))
        if isinstance(function, type) and issubclass(function, Inert):
            return function(args, kwargs)
        if isinstance(function, Inert):
            return self._inert(f"{function.name[:200]}()")(args, kwargs)
        raise ValueError(f"it calls a {type(function).__name__}")

    def _build(self, target: Any, state: Any) -> None:
        """The instruction that sets the attributes of `target`."""
        if isinstance(target, Inert):
            target.state = self._attributes(state)
        elif isinstance(target, OrderedDict):
            if isinstance(state, dict) and "_metadata" in state:
                vars(target)["_metadata"] = state["_metadata"]
        elif isinstance(target, NumpyType):
            target.order = order if (order := text(state[1])) in "<>" else "|"
        elif isinstance(target, np.ndarray):
            _, shape, dtype, fortran, content = state
            array = storages.array(self.spend, content, dtype, shape, "F" if fortran else "C")
            target.__setstate__(cast(Any, (1, array.shape, array.dtype, bool(fortran), array.tobytes("A"))))
        elif not isinstance(target, dict | Tensor):
            raise ValueError(f"it sets attributes of a {type(target).__name__}")

    def _attributes(self, state: Any) -> Any:
        if isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, dict | None) for part in state):
            named, slots = state[0] or {}, state[1] or {}
            self.spend(100 * (len(named) + len(slots)))
            state = {**named, **slots}
        if isinstance(state, dict) and "build_module_src" in state:  # networks of dnnlib.tflib carry their source here
            self.spend(100 * len(state))
            state = {**state, "build_module_src": self.source(state["build_module_src"], state.get("name", ""))}
        return state

    def _persistent(self, record: Any) -> Inert:
        """A module as an inert record of its class name, its state and the sha256 of its source.

        The official reader would execute the source.
        """
        if not isinstance(record, dict) or record.get("type") != "class":
            raise ValueError("a persistent record that is not a class")
        name = text(record["class_name"])
        module = self._inert(name)(
            (), {"version": record.get("version"), "source": self.source(record["module_src"], name)}
        )
        module.state = self._attributes(record.get("state"))
        return module

    def _listed(self, items: Any, each: int = 8) -> Any:
        """The items of a list or tuple, after spending `each` bytes per item for the copy that the caller makes."""
        if not isinstance(items, list | tuple):
            raise ValueError(f"a {type(items).__name__} in place of a list")
        self.spend(each * len(items))
        return items

    def _ordered(self, items: Any = ()) -> OrderedDict[Any, Any]:
        return OrderedDict((self.key(key), value) for key, value in self._listed(items, 100))

    def _dictionary(self) -> dict[Any, Any]:
        return {}

    def _set(self, items: Any = ()) -> set[Any]:
        return set(map(self.key, self._listed(items, 100)))

    def _decode(self, content: bytes) -> str:
        self.spend(len(content))
        return content.decode("latin1")

    # Tensors and arrays.

    def _nested(self, content: Any) -> Any:
        if not isinstance(content, bytes):
            raise ValueError("a storage that is not bytes")
        self._depth += 1
        if self._depth > NESTED:
            raise ValueError(f"more than {NESTED} torch files are inside one another")
        self.spend(len(content))
        found = legacy(io.BytesIO(content), len(content), self)
        self._depth -= 1
        return found

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        return storages.view(self.spend, storage, offset, size, stride)

    def _tensor_v3(
        self, storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
    ) -> Tensor:
        return self._tensor(storage._replace(dtype=dtype), offset, size, stride)

    def _dill_array(self, function: Any, args: Any, state: Any, _: Any = None) -> Any:
        array = self._call(function, args)
        self._build(array, state)
        return array

    # Instructions.

    def _again(self, value: Any) -> Any:
        """A value that is used once more. Whoever reads the file may copy a tensor for each of its names."""
        if isinstance(value, Tensor | np.ndarray):
            self.spend(value.nbytes)
        return value

    def _append(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target += items
        elif isinstance(target, set):
            target.update(map(self.key, items))
        elif isinstance(target, Inert):
            target.items += items
        else:
            raise ValueError(f"it appends to a {type(target).__name__}")

    def _set_items(self, target: Any, items: list[Any]) -> None:
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, dict):
            target.update((self.key(key), value) for key, value in pairs)
        elif isinstance(target, Inert):
            target.items += pairs
        else:
            raise ValueError(f"it sets items of a {type(target).__name__}")

    def read(self, file: IO[bytes]) -> Any:
        """The object of one pickle; afterwards the file is at the byte after it. Damage raises an exception."""
        memo: dict[int, Any] = {}
        marks: list[list[Any]] = []
        stack: list[Any] = []

        def since_mark() -> list[Any]:
            nonlocal stack
            items, stack = stack, marks.pop()
            return items

        arg: Any
        for opcode, arg, _ in pickletools.genops(file):
            self.work()
            match name := opcode.name:
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[arg] = stack[-1]
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(self._again(memo[arg]))
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "MARK":
                    marks.append(stack)
                    stack = []
                case "REDUCE" | "NEWOBJ":
                    args = stack.pop()
                    stack[-1] = self._call(stack[-1], args)
                case "TUPLE":
                    items = since_mark()
                    stack.append(tuple(items))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    items = [stack.pop() for _ in range(int(name[-1]))]
                    stack.append(tuple(reversed(items)))
                case "PERSID" | "BINPERSID":
                    if self.stored is None:
                        raise ValueError("it refers to storages that are not in the file")
                    stack.append(self.stored(stack.pop() if arg is None else arg))
                case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                    stack.append(arg)
                case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                    stack.append(arg)
                case "STRING" | "BINSTRING" | "SHORT_BINSTRING":  # of Python 2: bytes as latin-1 text
                    stack.append(arg)
                case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                    stack.append(arg)
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
                case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT" | "EMPTY_SET":
                    empty: Callable[[], Any] = {"LIST": list, "TUPLE": tuple, "DICT": dict, "SET": set}[name[6:]]
                    stack.append(empty())
                case "GLOBAL":
                    stack.append(self._find(*arg.split(" ", 1)))
                case "STACK_GLOBAL":
                    short, module = text(stack.pop()), text(stack.pop())
                    stack.append(self._find(module, short))
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    self._set_items(stack[-1], [key, value])
                case "SETITEMS":
                    items = since_mark()
                    self._set_items(stack[-1], items)
                case "APPEND":
                    item = stack.pop()
                    self._append(stack[-1], [item])
                case "APPENDS" | "ADDITEMS":
                    items = since_mark()
                    self._append(stack[-1], items)
                case "BUILD":
                    state = stack.pop()
                    self._build(stack[-1], state)
                case "NEWOBJ_EX":
                    kwargs, args = stack.pop(), stack.pop()
                    stack[-1] = self._call(stack[-1], args, kwargs)
                case "INST":
                    items = since_mark()
                    stack.append(self._call(self._find(*arg.split(" ", 1)), items))
                case "OBJ":
                    function, *items = since_mark()
                    stack.append(self._call(function, items))
                case "LIST":
                    items = since_mark()
                    stack.append(items)
                case "DICT":
                    items = since_mark()
                    stack.append({})
                    self._set_items(stack[-1], items)
                case "FROZENSET":
                    items = since_mark()
                    stack.append(frozenset(map(self.key, items)))
                case "POP" if stack:
                    stack.pop()
                case "POP" | "POP_MARK":
                    since_mark()
                case "DUP":
                    stack.append(self._again(stack[-1]))
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case _:
                    raise ValueError(f"instruction {name} refers to something outside the file")
        raise ValueError("it has no end")


def legacy(file: IO[bytes], size: int, reader: Reader) -> Any:
    """The object in a torch file of `size` bytes in the format older than zip.

    The file has three pickles of header, the object, the keys of its storages, then for each storage the number of its
    elements and its bytes. A damaged file raises an exception; so does a storage that is not in the file, because its
    tensors would show uninitialised memory.
    """
    found: dict[str, Storage] = {}

    def stored(saved: Any) -> Any:
        if not isinstance(saved, tuple) or len(saved) not in (4, 6):
            raise ValueError("a reference to something that is not a storage")
        if len(saved) == 4:  # a class, and the source text that defines it
            _, module, _, source = saved
            if source is not None:
                reader.source(source, getattr(module, "name", ""))
            return module
        _, dtype, key, _, count, view = saved
        if text(key) not in found:
            found[text(key)] = storages.allocate(reader.spend, count, dtype, size)
        whole = found[text(key)]
        if view is None:
            return whole
        _, start, length = view
        return Storage(whole.memory[start * dtype.itemsize : (start + length) * dtype.itemsize], dtype)

    outer, reader.stored = reader.stored, None
    magic, _, _ = (reader.read(file) for _ in range(3))
    if type(magic) is not int or magic != int.from_bytes(LEGACY, "little"):
        raise ValueError("the header of a torch file is missing")
    reader.stored = stored
    content = reader.read(file)
    reader.stored = None
    keys = [text(key) for key in reader.read(file)]
    reader.stored = outer
    if sorted(keys) != sorted(found):
        raise ValueError("the storages that its tensors use are not those in the file")
    for key in keys:
        memory, dtype = found[key]
        if int.from_bytes(file.read(8), "little") * dtype.itemsize != len(memory):
            raise ValueError(f"the size of storage {key[:20]} is not the one that its tensors state")
        storages.fill(memory, file)
    return content
