"""Artifacts: what components hand to one another, a file for each domain.

An artifact is a folder. Its class documents the layout, and writes and reads the files.

A module here imports what takes seconds to load where it is used: reports on earlier runs ask the classes, and load no
TensorFlow. It imports no more than its own files need, because an edit of what it imports redoes the components that
use it.
"""

import functools
import importlib
import pkgutil

from pipelines.engine.component import Artifact


@functools.cache
def _classes() -> dict[str, type[Artifact]]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = (value for module in modules for value in vars(module).values())
    return {kind.__name__: kind for kind in found if isinstance(kind, type) and issubclass(kind, Artifact)}


def find_class(name: str) -> type[Artifact]:
    """Return the class that the metadata keep as `name`; `Artifact` itself for one that is no longer known."""
    return _classes().get(name, Artifact)
