"""Runs main.py with the folder of one component after another on a disk of its own, which is too small at first.

unshare -rm python small_disks.py PHOTOS ExampleGen,Trainer --epochs 1 ...     in the folder to work in

Prints a JSON line for each attempt: component, disk (KiB, None where there is room), status, lines on standard error,
folders left over.
"""

import contextlib
import io
import json
import subprocess
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from pipelines import command_line

DISKS = (4, 8, 20, 60, 180, 540, 1620, 4860)  # KiB
SHELF = Path("saved_models")


def call(*arguments):
    """The status of main.py, and what it said on standard error."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = command_line.run(["main.py", *arguments])
        except Exception:
            traceback.print_exc()
            status = 1
    return status, said.getvalue()


def attempt(component, arguments, disk):
    """One run up to the component; returns its status."""
    status, said = call(*arguments, "--to", component)
    left = [*Path(".kcnn").glob("*/*/*.partial"), *SHELF.glob("*/.*")]
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    row = {"component": component, "disk": disk, "status": status, "errors": errors, "left": list(map(str, left))}
    print(json.dumps(row | {"said": said if status == 1 else ""}), flush=True)
    return status


def run(components, arguments):
    for component in components:
        folder = SHELF if component == "Pusher" else Path(".kcnn", component)
        for disk in DISKS:
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}k", "none", str(folder)], check=True)
            status = attempt(component, arguments, disk)
            subprocess.run(["umount", "-l", str(folder)], check=True)
            if status == 0:
                break
        attempt(component, arguments, None)


if __name__ == "__main__":
    run(sys.argv[1].split(","), sys.argv[2:])
