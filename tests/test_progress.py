"""Progress bars on a terminal and in a log."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import time
from kcnn import progress
for i in progress.bar(range(4), description="Reading", unit="img"):
    pass
with progress.bar(total=2, description="Training", unit="step") as steps:
    time.sleep(1.3)
    steps.update(2)
with progress.clock("Exporting"):
    time.sleep(0.1)
try:
    with progress.bar(total=5, description="Failing", unit="img") as images:
        images.update(3)
        raise ValueError
except ValueError:
    pass
list(progress.bar(range(3), description="Quick", after=1.0))
with progress.bar(total=2, description="Long", after=0.5) as steps:
    time.sleep(1.2)
with progress.hidden():
    list(progress.bar(range(3), description="Hidden"))
print("over")
"""
COMMAND = [sys.executable, "-c", PROGRAM]
ROOT = Path(__file__).parent.parent


def on_a_terminal(columns):
    """Return what the program writes, line by line, each with its states."""
    master, slave = pty.openpty()
    if columns:
        subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=slave, check=True)
    process = subprocess.Popen(COMMAND, cwd=ROOT, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    written = b""
    try:
        while piece := os.read(master, 4096):
            written += piece
    except OSError:  # the other side has closed it
        pass
    os.close(master)
    assert process.wait() == 0
    lines = written.decode().replace("\r\n", "\n").split("\n")
    return [[state.rstrip() for state in line.split("\r") if state.strip()] for line in lines]


def test_a_log_has_whole_lines():
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, check=True)
    assert b"\r" not in done.stdout + done.stderr
    lines = done.stderr.decode().splitlines()
    assert [line.split(":")[0] for line in lines] == ["Reading", "Training", "Exporting", "Failing", "Long"]
    assert lines[0].startswith("Reading: 4 of 4 img, 00:00 elapsed, 00:00 left")
    assert lines[3].startswith("Failing: 3 of 5 img")


def test_a_log_has_a_line_in_so_many_seconds():
    program = (
        "import time; from kcnn import progress; progress.SECONDS = 0.3\n"
        "for i in progress.bar(range(20), description='Reading'): time.sleep(0.05)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 5
    assert lines[-1].startswith("Reading: 20 of 20 it")


@pytest.mark.parametrize("columns", [100, 0])  # 0 where a container does not know the size
def test_a_terminal_has_bars_whose_clock_goes_on(columns):
    lines = [states for states in on_a_terminal(columns) if states]
    assert [states[-1].split(":")[0] for states in lines] == [
        "Reading",
        "Training",
        "Exporting",
        "Failing",
        "Long",
        "over",
    ]
    assert "100%" in lines[0][-1]
    assert any("00:01" in state and "0/2" in state for state in lines[1]), lines[1]  # before the first step was over
    assert max(len(state) for states in lines for state in states) <= (columns or 80)
