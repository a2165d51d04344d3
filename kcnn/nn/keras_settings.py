"""Keras' settings of a whole process, which `~/.keras/keras.json`, the environment or another program may change."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

# By the name in `keras.config`. The last two would end every training early.
_NEEDED: dict[str, Any] = {
    "image_data_format": "channels_last",
    "floatx": "float32",
    "epsilon": 1e-7,
    "max_epochs": None,
    "max_steps_per_epoch": None,
}


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


@contextlib.contextmanager
def needed_settings() -> Iterator[None]:
    """Give Keras the settings that the networks need, within the block or the decorated function.

    A dtype policy that somebody has chosen stays; the one that only follows `floatx` becomes float32.
    """
    before = {name: getattr(keras.config, name)() for name in _NEEDED}
    policy = keras.config.dtype_policy()
    _apply(_NEEDED)
    if policy.name == before["floatx"]:
        keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        _apply(before)
        keras.config.set_dtype_policy(policy)


def set_needed_settings() -> None:
    """Give Keras the settings that the networks need, and layers in float32, for the rest of the process."""
    _apply(_NEEDED)
    keras.config.set_dtype_policy("float32")


def _apply(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
