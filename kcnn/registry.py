"""Registries: how an architecture, a dataset, an augmentation or a recipe is found by its name.

A registry is filled by the modules that register in it. `discover` imports every module of a package once, at the first
lookup, so a new file is found because it exists and `import kcnn` stays cheap.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from kcnn.errors import UserError, nearest

T = TypeVar("T")


def _key(name: str) -> str:
    """`MobileNet_V2` and `mobilenetv2` are one name; the dot stays, since `mobilenetv2_1.4` is not `mobilenetv2_14`."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())


class Registry(Generic[T]):
    """A table from names to entries.

    Args:
        kind: what an entry is, for messages ("model", "dataset").
        package: the package whose modules register entries on import; None when the registering module is always
            imported.
    """

    def __init__(self, kind: str, package: str | None = None):
        self.kind = kind
        self._package = package
        self._entries: dict[str, tuple[str, T]] = {}
        self._modules: dict[str, str] = {}

    def add(self, name: str, entry: T) -> T:
        """Adds `entry` under `name`; raises ValueError when the name is taken."""
        if _key(name) in self._entries:
            raise ValueError(f"two entries named {name!r} in the registry of {self.kind}s")
        self._entries[_key(name)] = (name, entry)
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        self._modules[_key(name)] = frame.f_globals["__name__"]
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """The decorator form of `add`."""
        return lambda entry: self.add(name, entry)

    def discover(self) -> None:
        """Imports the modules that register entries here."""
        if self._package is None:
            return
        package, self._package = importlib.import_module(self._package), None
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")

    def get(self, name: str) -> T:
        """The entry called `name`, case and separators forgiven; raises UserError with the closest names on a miss."""
        self.discover()
        try:
            return self._entries[_key(name)][1]
        except KeyError:
            raise UserError(f"unknown {self.kind} {name!r}: {nearest(name, self.names())}") from None

    def module(self, name: str) -> str:
        """Return the name of the module that registers the entry called `name`; UserError where there is none."""
        self.get(name)
        return self._modules[_key(name)]

    def names(self) -> list[str]:
        """All names, in the order of registration."""
        self.discover()
        return [name for name, _ in self._entries.values()]

    def __contains__(self, name: str) -> bool:
        self.discover()
        return _key(name) in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
