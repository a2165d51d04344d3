"""The precision that layers are built in."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build the block's layers in one dtype policy, and restore the global policy at its end.

    Args:
        name: a policy of Keras: "float32", "mixed_bfloat16", "mixed_float16".
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
