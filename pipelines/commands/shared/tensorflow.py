"""Loading TensorFlow and Keras with the settings that results depend on, whatever the machine's own are."""

import os
import sys
from pathlib import Path

from kcnn.errors import UserError
from kcnn.startup import import_tensorflow
from kcnn.terminal import print_lines

_USUAL = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI, where it trains 1.3 to 2 times as fast.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
_NEEDED = {"KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false", "TF2_BEHAVIOR": "1"}
# Variable → what it would do.
_HARMFUL = {
    "KERAS_MAX_EPOCHS": "ends trainings early",
    "KERAS_MAX_STEPS_PER_EPOCH": "ends epochs early",
    "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "computes with weights from before they were trained",
    "TF_SET_ONEDNN_FPMATH_MODE": "computes in another precision",
    "TF_FUNCTION_JIT_COMPILE_DEFAULT": "compiles what cannot be compiled, such as decoding",
}


def load_tensorflow() -> None:
    """Import TensorFlow without what it writes to the terminal before it reads any setting of its own.

    It takes seconds: a command checks first what can be checked without. Settings of the environment and of Keras' file
    that would change results are overridden; of the harmful ones a line on standard error says so.

    Raises:
        UserError: Keras cannot read its file of settings.
    """
    for name, value in _USUAL.items():
        os.environ.setdefault(name, value)
    os.environ.update(_NEEDED)
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # keras-cv breaks under it
    for name, effect in _HARMFUL.items():
        if os.environ.pop(name, None) is not None:
            print_lines(f"{name} of the environment is ignored: it {effect}", file=sys.stderr)
    try:
        import_tensorflow()
        from kcnn.nn.keras_settings import set_needed_settings
    except (AssertionError, AttributeError, OSError, RecursionError, TypeError, ValueError) as error:
        settings = Path(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json").expanduser()
        if "keras" in sys.modules or not os.path.lexists(settings):
            raise
        raise UserError(f"{settings}: Keras cannot read these settings: {error}; correct or remove the file") from error
    set_needed_settings()
