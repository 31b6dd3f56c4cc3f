"""The pickles in PyTorch's files: an interpreter of the few opcodes that describe tensors, which executes nothing.

A name in a pickle is compared with a fixed list and stands for a description; nothing is imported or called. The format
is documented in Python's ``Lib/pickletools.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpcnn.formats.torch_tensor import Storage, View

#: The advice for files of anything but weights.
ADVICE = "Save the weights alone, with torch.save(model.state_dict(), path)."
#: The most opcodes in the pickles of a file; a tensor takes about 40.
MOST_OPCODES = 1_000_000
#: The dtype of each kind of storage.
_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
#: The names that a pickle may refer to.
_NAMES = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *_STORAGES,
}


@dataclass(frozen=True)
class Global:
    """A function or class that a pickle refers to, which is only a name here."""

    name: str


class Pickles:
    """Pickles that follow one another in a file; ``storages`` contains those that they refer to, by key."""

    def __init__(self, content: bytes, position: int = 0) -> None:
        self.storages: dict[str, Storage] = {}
        self._content, self._position = content, position
        self._opcodes = 0
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the value of the next pickle; raise ValueError if it is damaged or not part of a state_dict."""
        self._stack, self._outer, self._memo = [], [], {}
        try:
            while (opcode := self.take(1)) != b".":  # STOP
                self._opcodes += 1
                if self._opcodes > MOST_OPCODES:
                    raise ValueError(f"its pickle has more than {MOST_OPCODES:,} opcodes. {ADVICE}")
                self._apply(opcode)
            return self._stack.pop()
        except (IndexError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"its pickle is damaged before byte {self._position}") from error

    def take(self, count: int) -> bytes:
        """Return the next bytes of the file."""
        start, end = self._position, self._position + count
        if not start <= end <= len(self._content):
            raise ValueError(f"it ends after {len(self._content)} bytes, within a pickle or a storage")
        self._position = end
        return self._content[start:end]

    def number(self, size: int, signed: bool = False) -> int:
        """Return the next number, of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def _text(self, size: int) -> str:
        return str(self.take(self.number(size)), "utf-8")

    def _line(self) -> str:
        end = self._content.find(b"\n", self._position)
        return str(self.take(end + 1 - self._position)[:-1], "utf-8")

    def _long(self) -> int:
        size = self.number(1)
        if size > 8:  # longer ones could be made to collide as keys of a dict
            raise ValueError(f"its pickle has an integer of {size} bytes, and at most 8 are expected. {ADVICE}")
        return self.number(size, signed=True)

    def _float(self) -> float:
        (number,) = struct.unpack(">d", self.take(8))
        return float(number)

    def _marked(self) -> list[Any]:
        """Remove the items above the last mark from the stack, and return them."""
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _apply(self, opcode: bytes) -> None:
        """Change the stack, or the memo, as an opcode says."""
        stack = self._stack
        if opcode in _VALUES:
            stack.append(_VALUES[opcode](self))
            return
        match opcode:
            case b"\x80":  # PROTO
                self.take(1)
            case b"\x95":  # FRAME
                self.take(8)
            case b"q":  # BINPUT
                self._memo[self.number(1)] = stack[-1]
            case b"r":  # LONG_BINPUT
                self._memo[self.number(4)] = stack[-1]
            case b"\x94":  # MEMOIZE
                self._memo[len(self._memo)] = stack[-1]
            case b"(":  # MARK
                self._outer.append(stack)
                self._stack = []
            case b"t":  # TUPLE
                items = self._marked()
                self._stack.append(tuple(items))
            case b"\x85" | b"\x86" | b"\x87":  # TUPLE1, TUPLE2, TUPLE3
                items = [stack.pop() for _ in range(opcode[0] - 0x84)]
                stack.append(tuple(reversed(items)))
            case b"a":  # APPEND
                item = stack.pop()
                _append(stack[-1], [item])
            case b"e":  # APPENDS
                items = self._marked()
                _append(self._stack[-1], items)
            case b"s":  # SETITEM
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key, value])
            case b"u":  # SETITEMS
                items = self._marked()
                _set(self._stack[-1], items)
            case b"\x93":  # STACK_GLOBAL
                name, module = stack.pop(), stack.pop()
                stack.append(_global(module, name))
            case b"Q":  # BINPERSID
                stack.append(self._storage(stack.pop()))
            case b"R":  # REDUCE
                arguments, function = stack.pop(), stack.pop()
                stack.append(_result(function, arguments))
            case b"b":  # BUILD
                state = stack.pop()
                if not (isinstance(stack[-1], dict) and isinstance(state, dict) and state.keys() == {"_metadata"}):
                    raise ValueError(f"its pickle gives something attributes other than _metadata. {ADVICE}")
            case _:
                raise ValueError(f"its pickle has the opcode {opcode!r}, which no state_dict contains. {ADVICE}")

    def _storage(self, description: Any) -> Storage:
        """Return what a persistent id stands for; those of a stream end with None, as they are not views."""
        if isinstance(description, tuple) and len(description) == 6 and description[5] is None:
            description = description[:5]
        match description:
            case ("storage", Global(name), str(key), str(), int(count)) if name in _STORAGES:
                storage = Storage(_STORAGES[name], key, count)
                if self.storages.setdefault(key, storage) == storage:
                    return storage
        raise ValueError(f"its pickle refers to data that is not one storage of known numbers. {ADVICE}")


#: The opcodes that push a value: a constant, or one given by the bytes after the opcode.
_VALUES: dict[bytes, Callable[[Pickles], Any]] = {
    b"N": lambda _: None,  # NONE
    b"\x88": lambda _: True,  # NEWTRUE
    b"\x89": lambda _: False,  # NEWFALSE
    b")": lambda _: (),  # EMPTY_TUPLE
    b"]": lambda _: [],  # EMPTY_LIST
    b"}": lambda _: {},  # EMPTY_DICT
    b"K": lambda pickles: pickles.number(1),  # BININT1
    b"M": lambda pickles: pickles.number(2),  # BININT2
    b"J": lambda pickles: pickles.number(4, signed=True),  # BININT
    b"\x8a": lambda pickles: pickles._long(),  # LONG1
    b"G": lambda pickles: pickles._float(),  # BINFLOAT
    b"\x8c": lambda pickles: pickles._text(1),  # SHORT_BINUNICODE
    b"X": lambda pickles: pickles._text(4),  # BINUNICODE
    b"h": lambda pickles: pickles._memo[pickles.number(1)],  # BINGET
    b"j": lambda pickles: pickles._memo[pickles.number(4)],  # LONG_BINGET
    b"c": lambda pickles: _global(pickles._line(), pickles._line()),  # GLOBAL
}


def _append(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise ValueError("its pickle is damaged: it appends to something that is not a list")
    target += items


def _set(target: Any, items: list[Any]) -> None:
    keys, values = items[::2], items[1::2]
    # other keys, such as nested tuples, may take very long to compare
    if not isinstance(target, dict) or len(keys) > len(values) or not all(isinstance(key, str | int) for key in keys):
        raise ValueError(f"its pickle has a dict whose keys are not all strings and integers. {ADVICE}")
    target.update(zip(keys, values, strict=True))


def _global(module: Any, name: Any) -> Global:
    """Return a name of the fixed list; raise ValueError for any other."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle is damaged: a name is not a string")
    full = f"{module}.{name}"
    if full not in _NAMES:
        raise ValueError(f"its pickle refers to {full[:100]!r}, which no state_dict contains and is not run. {ADVICE}")
    return Global(full)


def _result(function: Any, arguments: Any) -> Any:
    """Return the description of what a function of the fixed list would return."""
    match function, arguments:
        case Global("collections.OrderedDict"), ():
            return {}
        case Global("torch._utils._rebuild_parameter"), (View() as view, _, _):
            return view
        case (
            Global("torch._utils._rebuild_tensor_v2"),
            (Storage() as storage, int(offset), tuple(shape), tuple(strides), _, _),
        ):
            return View.checked(storage, offset, shape, strides)
    raise ValueError(f"its pickle calls something with arguments that no state_dict contains. {ADVICE}")
