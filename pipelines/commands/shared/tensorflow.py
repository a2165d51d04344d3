"""Loading TensorFlow."""

import os

from kcnn.startup import import_tensorflow


def load_tensorflow() -> None:
    """Import TensorFlow without what it writes to the terminal before it reads any setting of its own.

    It takes seconds: a command checks first what can be checked without.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI, where it trains 1.3 to 2 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # keras-cv breaks under it
    import_tensorflow()
