"""Loading TensorFlow: soon, and without what it writes to the terminal."""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator

# Keras imports them where they are installed, for plots and wrappers that nothing here takes: a third of the time.
_UNUSED = ("matplotlib", "sklearn")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Discard what is written to standard error within the block, by libraries below Python too."""
    terminal = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def import_tensorflow() -> None:
    """Import TensorFlow and Keras."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None has their import fail
    # Each collection looks at the million objects that the libraries are made of, during the import and ever after.
    gc.disable()
    try:
        with quietly():
            importlib.import_module("tensorflow")
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            del sys.modules[name]
