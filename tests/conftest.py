"""What all tests stand on."""

import gc
import signal

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would the programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Those that take minutes, the longest first.
LONG = (
    "test_models.py",
    "test_main.py",
    "test_formats.py",
    "test_applications.py",
    "test_runtimes.py",
    "test_pretraining.py",
    "test_trainer.py",
    "test_export.py",
    "test_server_faults.py",
    "test_extending.py",
    "test_code_blocks.py",
    "test_faults.py",
    "test_validate.py",
)


def pytest_collection_modifyitems(items):
    """Begins with the long files, so that the processes end together."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish():
    """What is imported by now stays: each `keras.backend.clear_session` would look through all of it for rubbish."""
    gc.collect()
    gc.freeze()
