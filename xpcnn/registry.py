"""Registries that turn a name, a configuration or an object into an object, and objects back into configurations.

A named class stores each constructor argument as an attribute of the same name, so that its configuration,
``{"name": …, argument: value, …}``, follows from its signature.
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

#: The types accepted as a number in an argument; booleans, which are integers in Python, are refused later.
Number = int | float | np.integer | np.floating


class Named:
    """Base class of what a model file can name: losses, optimisers, schedules, metrics, initialisers."""

    #: The name of the class in configurations, by default that of :func:`name_of`.
    name: str

    def __init_subclass__(cls) -> None:
        cls.name = cls.__dict__.get("name", name_of(cls))

    def config(self) -> dict[str, Any]:
        """Return ``{"name": …, argument: value, …}``, including nested objects, as JSON-serialisable values."""
        return {"name": type(self).name} | {key: _plain(getattr(self, key)) for key in parameters(type(self))}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={getattr(self, key)!r}" for key in parameters(type(self)))
        return f"{type(self).__name__}({arguments})"


def name_of(cls: type[Any]) -> str:
    """Return the name of a class in snake case, with abbreviations kept together.

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

    kind: its name in error messages ("loss"); base: the class that objects must be instances of; classes: those that
    can be named. Raises ValueError if two classes share a name, or if a constructor has an argument called "name".
    """

    def __init__(self, kind: str, base: type[T], classes: Iterable[type[T]]) -> None:
        self.kind = kind
        self.base = base
        self.classes: dict[str, type[T]] = {}
        for cls in classes:
            if cls.name in self.classes or "name" in parameters(cls):
                raise ValueError(
                    f"Every {kind} needs a unique name and must not have an argument called 'name'. "
                    f"Received: {cls.__name__}, named {cls.name!r}."
                )
            self.classes[cls.name] = cls

    def get(self, given: T | str | Mapping[str, Any]) -> T:
        """Return the object for a name, a configuration or an object, which is returned unchanged.

        Raises ValueError for an unknown name or invalid arguments, and TypeError for any other type.
        """
        if isinstance(given, self.base):
            return given
        if isinstance(given, str):
            return self.from_config({"name": given})
        if isinstance(given, Mapping):
            return self.from_config(given)
        raise TypeError(
            f"Give the {self.kind} as a name ({', '.join(self.classes)}) or as a {self.base.__name__} object. "
            f"Received: {reprlib.repr(given)}."
        )

    def from_config(self, config: Mapping[str, Any]) -> T:
        """Create an object from its configuration, which may come from an untrusted file.

        Raises ValueError, listing the valid ones, for an unknown name and for unknown or missing arguments, and for
        values that the class rejects.
        """
        arguments = dict(config)
        name = arguments.pop("name", None)
        cls = self.classes.get(name) if isinstance(name, str) else None
        if cls is None:
            raise ValueError(
                f"There is no {self.kind} with that name.{hints.did_you_mean(self.kind, name, self._spellings())} "
                f"Use one of: {', '.join(self.classes)}. Received: {reprlib.repr(name)}."
            )
        known = parameters(cls)
        required = {key for key, parameter in known.items() if parameter.default is inspect.Parameter.empty}
        if not required <= arguments.keys() <= known.keys():
            raise ValueError(
                f"The {self.kind} '{name}' takes {', '.join(known) or 'no arguments'}"
                f"{' (required: ' + ', '.join(k for k in known if k in required) + ')' if required else ''}. "
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
        """Yield each class under its registered name and under its Python name."""
        for name, cls in self.classes.items():
            yield from ((name, cls), (cls.__name__, cls))


def check_float(what: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """Return ``value`` as a Python float; raise ValueError if it is not a finite number in ``interval``.

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
    """Return ``value`` as a Python int; raise ValueError if it is not an integer of at least ``least``."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise ValueError(f"{what} must be a whole number, at least {least}. Received: {reprlib.repr(value)}.")
