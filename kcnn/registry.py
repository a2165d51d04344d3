"""Registries: how an architecture, a dataset, an augmentation or a recipe is found by its name.

A registry is filled by the modules that register in it. `discover` imports every module of a package once, at the first
lookup, so a new file is found because it exists and `import kcnn` stays cheap.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from kcnn.errors import UserError, nearest

T = TypeVar("T")


class _Entry(NamedTuple, Generic[T]):
    name: str
    value: T
    module: str


def _key(name: str) -> str:
    """Return the form under which names are compared.

    `MobileNet_V2` and `mobilenetv2` are one name; the dot stays, since `mobilenetv2_1.4` is not `mobilenetv2_14`.
    """
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def caller_module(depth: int = 1) -> str:
    """Return the name of the module whose code calls the function that calls this one.

    Args:
        depth: how many callers further up to look; 1 is the direct caller of that function.
    """
    return str(sys._getframe(depth + 1).f_globals["__name__"])


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
        self._discovered = package is None
        self._entries: dict[str, _Entry[T]] = {}

    def add(self, name: str, entry: T, *, module: str | None = None) -> T:
        """Add an entry and return it.

        Args:
            name: of the entry.
            entry: what `get` returns for the name.
            module: the module that defines the entry; None for the module that calls this method.

        Raises:
            ValueError: the name is taken.
        """
        if _key(name) in self._entries:
            raise ValueError(f"two entries named {name!r} in the registry of {self.kind}s")
        self._entries[_key(name)] = _Entry(name, entry, module or caller_module())
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds what it decorates under `name`."""
        module = caller_module()
        return lambda entry: self.add(name, entry, module=module)

    def discover(self) -> None:
        """Import the modules that register entries here, once.

        A module that cannot be imported leaves no entries, and its error is raised at every lookup until the
        module is mended.
        """
        if self._discovered:
            return
        package = importlib.import_module(str(self._package))
        self._discovered = True  # a module may look up entries while it is imported
        try:
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")
        except BaseException:
            self._discovered = False
            # Python forgets a module whose import failed; the next lookup runs it again.
            self._entries = {key: entry for key, entry in self._entries.items() if entry.module in sys.modules}
            raise

    def get(self, name: str) -> T:
        """Return the entry called `name`, case and separators forgiven.

        Raises:
            UserError: there is no such entry; the message has the closest names.
        """
        return self._find(name).value

    def module(self, name: str) -> str:
        """Return the name of the module that defines the entry called `name`.

        Raises:
            UserError: there is no such entry; the message has the closest names.
        """
        return self._find(name).module

    def names(self) -> list[str]:
        """Return all names, in the order of registration."""
        self.discover()
        return [entry.name for entry in self._entries.values()]

    def __contains__(self, name: str) -> bool:
        self.discover()
        return _key(name) in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _find(self, name: str) -> _Entry[T]:
        self.discover()
        try:
            return self._entries[_key(name)]
        except KeyError:
            raise UserError(f"unknown {self.kind} {name!r}: {nearest(name, self.names())}") from None
