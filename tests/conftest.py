"""Set-up of all tests: signals, the order of the files, garbage collection."""

import gc
import os
import signal

# A shell that runs the tests in the background makes them ignore Ctrl-C, and the programs that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As main.py has it, before TensorFlow loads.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# The files that take minutes, the longest first.
LONG = (
    "test_models.py",
    "test_main.py",
    "test_applications.py",
    "test_runtimes.py",
    "test_saved_model.py",
    "test_weights.py",
    "test_extending.py",
    "test_pretraining.py",
    "test_export.py",
    "test_server_operation.py",
    "test_formats.py",
    "test_parity.py",
    "test_trainer.py",
    "test_server_faults.py",
    "test_code_blocks.py",
    "test_bundle.py",
    "test_faults.py",
)


def pytest_collection_modifyitems(items):
    """Begin with the long files, so that the processes end together."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish():
    """Exempt the imported modules from garbage collection, which each `keras.backend.clear_session` runs."""
    gc.collect()
    gc.freeze()
