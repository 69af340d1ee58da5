"""Read pickles without importing or calling anything that they name.

A pickle is a program that names functions and calls them. `Reader` executes its instructions itself. It replaces a few
names in its table by functions of this file, and every other name by an inert record that only stores its arguments.
Small files can crash a process with deep tuples, shared lists and false lengths. So the reader never hashes, prints,
compares or copies anything to a depth or size that the file chooses.
"""

import hashlib
import io
import math
import pickletools
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

INSTRUCTIONS = 5_000_000
"""Maximum number of instructions in all pickles of a file together; a state dict has about 30 per tensor."""
LEGACY = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""The magic number of torch files older than the zip format; it follows the header of a pickle."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
CHUNK = 2**24
"""Number of bytes of a storage that are read at a time."""


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


class Storage(NamedTuple):
    """The memory of tensors: its bytes (uint8 [n]) and the type of its elements."""

    memory: Tensor
    dtype: torch.dtype


_KEYS = (str, bytes, int, float, complex, type(None), type, Inert, torch.dtype, tuple)


class _Replacement:
    """A function of this file that a pickle may call; no instruction can change it."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function


class _NumpyType:
    """A numpy type. A later instruction sets its byte order."""

    def __init__(self, code: Any, *_: Any):
        self.code, self.order = _text(code), "|"

    def get(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[biufc]\d\d?", self.code):
            raise ValueError(f"it has an array of numpy type {self.code[:20]!r}; only booleans and numbers are read")
        return np.dtype(self.order + self.code)


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
        self._left = INSTRUCTIONS
        self._digests: dict[str, str] = {}
        self._classes: dict[str, type[Inert]] = {}
        numpy = {
            "multiarray.scalar": _Replacement(self._numpy_scalar),
            "multiarray._reconstruct": _Replacement(lambda *_: np.empty(0, np.uint8)),
            "numeric._frombuffer": _Replacement(self._numpy_array),
        }
        python = {
            "set": _Replacement(self._set),
            "frozenset": _Replacement(lambda items=(): frozenset(self._set(items))),
            "slice": _Replacement(slice),
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
            "_codecs.encode": _Replacement(self._encode),
            "dnnlib.util.EasyDict": _Replacement(self._dictionary),
            "dnnlib.EasyDict": _Replacement(self._dictionary),
            "dill._dill._load_type": _Replacement(lambda name: self._find("builtins", _text(name))),
            "dill._dill._create_array": _Replacement(self._dill_array),
            "numpy.dtype": _Replacement(_NumpyType),
            "numpy.ndarray": np.ndarray,
            **{f"{module}.{name}": value for module in ("builtins", "__builtin__") for name, value in python.items()},
            **{f"{module}.{name}": value for module in ("numpy.core", "numpy._core") for name, value in numpy.items()},
        }

    def spend(self, size: int) -> None:
        """Subtract `size` bytes from the remaining room. Raises ValueError when there is not enough."""
        self.room -= size
        if self.room < 0:
            raise ValueError("its objects would take far more memory than the file has bytes")

    def source(self, text: Any, name: Any) -> str:
        """The sha256 of an embedded source text, which defines `name`; both are recorded in `sources`."""
        if isinstance(text, bytes):
            text = self._decode(text)
        if not isinstance(text, str):
            raise ValueError("an embedded source that is not text")
        if text not in self._digests:
            self._digests[text] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.sources[self._digests[text]].add(_text(name))
        return self._digests[text]

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
        elif isinstance(target, _NumpyType):
            target.order = order if (order := _text(state[1])) in "<>" else "|"
        elif isinstance(target, np.ndarray):
            _, shape, dtype, fortran, content = state
            array = self._numpy_array(content, dtype, shape, "F" if fortran else "C")
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
        name = _text(record["class_name"])
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
        return OrderedDict((_key(key), value) for key, value in self._listed(items, 100))

    def _dictionary(self) -> dict[Any, Any]:
        return {}

    def _set(self, items: Any = ()) -> set[Any]:
        return set(map(_key, self._listed(items, 100)))

    def _encode(self, text: Any, *_: Any) -> bytes:
        """Bytes, which a pickle of protocol 2 stores as text."""
        self.spend(len(text))
        return cast(bytes, text.encode("latin1"))

    def _decode(self, content: bytes) -> str:
        self.spend(len(content))
        return content.decode("latin1")

    # Tensors and arrays.

    def _nested(self, content: Any) -> Any:
        if not isinstance(content, bytes):
            raise ValueError("a storage that is not bytes")
        return legacy(io.BytesIO(content), len(content), self)

    def allocate(self, count: Any, dtype: Any, size: int) -> Storage:
        """Memory for `count` elements. Raises ValueError when they need more than the `size` bytes in the file."""
        if not isinstance(dtype, torch.dtype) or type(count) is not int or not 0 <= count * dtype.itemsize <= size:
            raise ValueError(f"a storage that should be larger than the {size:,} bytes that the file has for it")
        self.spend(count * dtype.itemsize)
        return Storage(torch.empty(count * dtype.itemsize, dtype=torch.uint8), dtype)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise ValueError("a tensor without storage")
        if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 64):
            raise ValueError("a tensor whose size and stride are not tuples of equal length")
        if not all(type(n) is int and 0 <= n < 2**60 for n in (offset, *size, *stride)):
            raise ValueError("a tensor whose offset, size or stride is out of range")
        elements = storage.memory.view(storage.dtype)
        count = math.prod(size)
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if count else offset
        if reach > len(elements):
            raise ValueError(
                f"a tensor of size {list(size)} reaches beyond the {len(elements):,} elements of its storage"
            )
        self.spend(count * elements.element_size())
        return elements.as_strided(size, stride, offset)

    def _tensor_v3(
        self, storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any
    ) -> Tensor:
        return self._tensor(storage._replace(dtype=dtype), offset, size, stride)

    def _numpy_array(self, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
        if not isinstance(dtype, _NumpyType):
            raise ValueError("an array without type")
        found, raw = dtype.get(), self._encode(content) if isinstance(content, str) else content
        if not isinstance(raw, bytes | bytearray):
            raise ValueError("an array whose content is not bytes")
        self.spend(len(raw))
        array = np.frombuffer(raw, found) if raw else np.empty(0, found)
        native = array.astype(found.newbyteorder("="), copy=False)
        return native.reshape(shape, order="F" if order == "F" else "C")

    def _numpy_scalar(self, dtype: Any, content: Any) -> Any:
        return self._numpy_array(content, dtype, (), "C").item()

    def _dill_array(self, function: Any, args: Any, state: Any, _: Any = None) -> Any:
        array = self._call(function, args)
        self._build(array, state)
        return array

    # Instructions.

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
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {INSTRUCTIONS:,} instructions")
            match name := opcode.name:
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[arg] = stack[-1]
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(memo[arg])
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
                    short, module = _text(stack.pop()), _text(stack.pop())
                    stack.append(self._find(module, short))
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    _set_items(stack[-1], [key, value])
                case "SETITEMS":
                    items = since_mark()
                    _set_items(stack[-1], items)
                case "APPEND":
                    item = stack.pop()
                    _append(stack[-1], [item])
                case "APPENDS" | "ADDITEMS":
                    items = since_mark()
                    _append(stack[-1], items)
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
                    _set_items(stack[-1], items)
                case "FROZENSET":
                    items = since_mark()
                    stack.append(frozenset(map(_key, items)))
                case "POP" if stack:
                    stack.pop()
                case "POP" | "POP_MARK":
                    since_mark()
                case "DUP":
                    stack.append(stack[-1])
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case _:
                    raise ValueError(f"instruction {name} refers to something outside the file")
        raise ValueError("it has no end")


def _text(value: Any) -> str:
    if not isinstance(value, str | bytes) or len(value) > 1000:
        raise ValueError(f"a {type(value).__name__} in place of a name, or a name of more than 1000 characters")
    return value.decode("latin1") if isinstance(value, bytes) else value


def _key(value: Any) -> Any:
    """A value that is safe as a key. Hashing and comparing tuples is recursive, so a deep one would end the process."""
    waiting, count = [value], 0
    while waiting:
        part = waiting.pop()
        count += 1
        if count > 1000:
            raise ValueError("a key of more than 1000 parts")
        if not isinstance(part, _KEYS):
            raise ValueError(f"a key that is a {type(part).__name__}")
        if isinstance(part, tuple):
            waiting += part[:1001]
    return value


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target += items
    elif isinstance(target, set):
        target.update(map(_key, items))
    elif isinstance(target, Inert):
        target.items += items
    else:
        raise ValueError(f"it appends to a {type(target).__name__}")


def _set_items(target: Any, items: list[Any]) -> None:
    pairs = zip(items[::2], items[1::2], strict=True)
    if isinstance(target, dict):
        target.update((_key(key), value) for key, value in pairs)
    elif isinstance(target, Inert):
        target.items += pairs
    else:
        raise ValueError(f"it sets items of a {type(target).__name__}")


def legacy(file: IO[bytes], size: int, reader: Reader) -> Any:
    """The object in a torch file of `size` bytes in the format older than zip.

    The file has three pickles of header, the object, the keys of its storages, then for each storage the number of its
    elements and its bytes. A damaged file raises an exception; so does a storage that is not in the file, because its
    tensors would show uninitialised memory.
    """
    storages: dict[str, Storage] = {}

    def stored(saved: Any) -> Any:
        if not isinstance(saved, tuple) or len(saved) not in (4, 6):
            raise ValueError("a reference to something that is not a storage")
        if len(saved) == 4:  # a class, and the source text that defines it
            _, module, _, source = saved
            if source is not None:
                reader.source(source, getattr(module, "name", ""))
            return module
        _, dtype, key, _, count, view = saved
        if _text(key) not in storages:
            storages[_text(key)] = reader.allocate(count, dtype, size)
        whole = storages[_text(key)]
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
    keys = [_text(key) for key in reader.read(file)]
    reader.stored = outer
    if sorted(keys) != sorted(storages):
        raise ValueError("the storages that its tensors use are not those in the file")
    for key in keys:
        memory, dtype = storages[key]
        if int.from_bytes(file.read(8), "little") * dtype.itemsize != len(memory):
            raise ValueError(f"the size of storage {key[:20]} is not the one that its tensors state")
        fill(memory, file)
    return content


def fill(memory: Tensor, file: IO[bytes]) -> None:
    """Read the bytes of a storage into `memory`. Raises ValueError when the file ends too early."""
    for start in range(0, len(memory), CHUNK):
        part = memory[start : start + CHUNK].numpy().data
        if cast(io.BufferedIOBase, file).readinto(part) != len(part):
            raise ValueError("it ends in the middle of a storage")
