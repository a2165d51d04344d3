"""Files whose reading never ends or never begins, and a limit on the time of a test that meets them."""

import contextlib
import os
import signal
import socket


def endless_files(folder):
    """Make the files in a folder, and return their names; those that read as empty are links to the kernel's."""
    os.mkfifo(folder / "pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
        here = os.open(folder, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{here}/socket")  # a socket's own path has at most 107 letters
        os.close(here)
    for name, target in {"zero": "/dev/zero", "kmsg": "/proc/kmsg", "mem": "/proc/self/mem"}.items():
        (folder / name).symlink_to(target)
    return ["pipe", "socket", "zero", "kmsg", "mem"]


EMPTY = ("kmsg", "mem")


@contextlib.contextmanager
def time_limit(seconds=20):
    """Raise TimeoutError where the block takes longer."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
