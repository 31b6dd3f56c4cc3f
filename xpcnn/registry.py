"""Named things: from a name, a configuration or an object to an object, and back to a configuration.

A named class keeps each argument of its constructor as an attribute of the same name, so that its
configuration, ``{"name": …, argument: value, …}``, can be read off its signature.
"""

from __future__ import annotations

import inspect
import math
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from xpcnn import hints

#: What counts as a number in an argument; booleans, which Python calls integers, are refused later.
Number = int | float | np.integer | np.floating


class Named:
    """Base of what a model file can name: losses, optimisers, schedules, metrics, initialisers."""

    #: What the class is called in configurations: what :func:`name_of` makes of it, unless it says otherwise.
    name: str

    def __init_subclass__(cls) -> None:
        cls.name = cls.__dict__.get("name", name_of(cls))

    def config(self) -> dict[str, Any]:
        """Return ``{"name": …, argument: value, …}``, made of what JSON can hold, nested objects included."""
        return {"name": type(self).name} | {key: _plain(getattr(self, key)) for key in parameters(type(self))}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={getattr(self, key)!r}" for key in parameters(type(self)))
        return f"{type(self).__name__}({arguments})"


def name_of(cls: type[Any]) -> str:
    """Return the name of a class in snake case, abbreviations in one piece.

    >>> [name_of(type(name, (), {})) for name in ("MaxPool2D", "LeakyReLU", "RMSprop")]
    ['max_pool2d', 'leaky_relu', 'rmsprop']
    """
    return re.sub("(?<=[a-z0-9])(?=[A-Z][a-z])", "_", cls.__name__).lower()


def parameters(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments that the constructor of ``cls`` takes by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {key: p for key, p in inspect.signature(cls).parameters.items() if p.kind in named}


def is_known(part: object) -> bool:
    """Whether a layer, a loss or another part belongs to this package, so that what it does with arrays is known."""
    return type(part).__module__.startswith("xpcnn.")


def _plain(value: Any) -> Any:
    if isinstance(value, Named):
        return value.config()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """The classes of one kind, by name.

    kind: how error messages call it ("loss"); base: what an object must be an instance of; classes: those
    that can be named. Raises ValueError where two classes share a name, or a constructor has an argument
    called "name".
    """

    def __init__(self, kind: str, base: type[T], classes: Iterable[type[T]]) -> None:
        self.kind = kind
        self.base = base
        self.classes: dict[str, type[T]] = {}
        for cls in classes:
            if cls.name in self.classes or "name" in parameters(cls):
                raise ValueError(
                    f"Every {kind} needs a name of its own and no argument called 'name'. "
                    f"Received: {cls.__name__}, named {cls.name!r}."
                )
            self.classes[cls.name] = cls

    def get(self, given: T | str | Mapping[str, Any]) -> T:
        """Return the object that ``given`` stands for; an object stays as it is.

        Raises ValueError for an unknown name or unfit arguments, TypeError for anything else than these
        three.
        """
        if isinstance(given, self.base):
            return given
        if isinstance(given, str):
            return self.from_config({"name": given})
        if isinstance(given, Mapping):
            return self.from_config(given)
        raise TypeError(
            f"Give the {self.kind} as a name ({', '.join(self.classes)}) or a {self.base.__name__} object. "
            f"Received: {reprlib.repr(given)}."
        )

    def from_config(self, config: Mapping[str, Any]) -> T:
        """Build an object from its configuration, which may come from an untrusted file.

        Raises ValueError, saying what there is, for an unknown name, an unknown or a missing argument, and
        for values that the class refuses.
        """
        arguments = dict(config)
        name = arguments.pop("name", None)
        cls = self.classes.get(name) if isinstance(name, str) else None
        if cls is None:
            raise ValueError(
                f"There is no {self.kind} of that name.{hints.did_you_mean(self.kind, name, self._spellings())} "
                f"Use one of: {', '.join(self.classes)}. Received: {reprlib.repr(name)}."
            )
        known = parameters(cls)
        required = {key for key, parameter in known.items() if parameter.default is inspect.Parameter.empty}
        if not required <= arguments.keys() <= known.keys():
            raise ValueError(
                f"The {self.kind} '{name}' takes {', '.join(known) or 'no arguments'}"
                f"{' (needed: ' + ', '.join(k for k in known if k in required) + ')' if required else ''}. "
                f"Received: {', '.join(map(str, arguments)) or 'no arguments'}."
            )
        try:
            return cls(**arguments)
        except (TypeError, RecursionError) as error:
            raise ValueError(
                f"The {self.kind} '{name}' cannot be made from {reprlib.repr(arguments)} ({error})."
            ) from error

    def no_attribute(self, module: str, given: str) -> AttributeError:
        """Return the error for a name that the classes' module does not have."""
        return hints.no_attribute(module, self.kind, given, {name: cls.__name__ for name, cls in self._named()})

    def _spellings(self) -> dict[str, str]:
        return {spelling: cls.name for spelling, cls in self._named()}

    def _named(self) -> Iterator[tuple[str, type[T]]]:
        """Yield the classes by name, and by what they are called in Python."""
        for name, cls in self.classes.items():
            yield from ((name, cls), (cls.__name__, cls))


def check_float(what: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """Return ``value`` as a Python float; raise ValueError where it is not a finite number in ``interval``.

    >>> check_float("momentum", 0.9, "[0, 1)")
    0.9
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    if isinstance(value, Number) and not isinstance(value, bool):
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if above and below and math.isfinite(value):
            return float(value)
    raise ValueError(f"{what} must be a number in {interval}. Received: {reprlib.repr(value)}.")


def check_int(what: str, value: Any, least: int = 0) -> int:
    """Return ``value`` as a Python int; raise ValueError where it is not a whole number from ``least`` on."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise ValueError(f"{what} must be a whole number, at least {least}. Received: {reprlib.repr(value)}.")
