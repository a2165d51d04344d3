"""Kill real jobs at random moments, run them again to the end, and compare with an undisturbed run.

    python tests/benchmarks/kills.py [--minutes 10] [--seed 0] [data | train]

After every kill: each artifact that the metadata know is whole, and what was published is as it was. In the end: the
results are those of the undisturbed run, byte for byte, and nothing is left over. A job's process is forked from one
that has loaded TensorFlow, which would take most of the time; with it dies all that it started.
"""

import argparse
import hashlib
import importlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipelines import command_line
from pipelines.commands.shared.tensorflow import load_tensorflow

TRAIN = ["--model", "lenet5", "--image_size", "32", "--epochs", "4", "--batch_size", "16", "--name", "m"]
JOBS = {"train": [*TRAIN, "--saved_models", "../saved_models"], "data": ["data"]}
MOST_KILLS = 4  # in a round
# What a fingerprint is without, by the artifact's type.
ASIDE = {"TransformGraph": "transform_fn/", "Findings": "exclusions.csv", "LabelErrors": "label_errors.csv"}
# What tells the time, what was there before, or (in the graph's names) what was traced before.
VARYING = (
    "saved_model.pb",
    "fingerprint.pb",
    "logs/",
    "training.json",
    "card.json",
    "begun.json",
    "pushed.json",
    "checks.json",
    "report.html",
    "blessing/",
    "baseline_answers/",
)


def photos(folder: Path) -> None:
    """Write two classes of small pictures, a broken one, and a copy."""
    for label, hue in {"fox": (200, 60, 60), "blåbær": (60, 60, 200)}.items():
        (folder / label).mkdir(parents=True)
        for index in range(30):
            pixels = np.random.default_rng(index).normal(hue, 30, (40, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    (folder / "fox" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    shutil.copy(folder / "fox" / "1.png", folder / "fox" / "copy.png")


def start(folder: Path, arguments: list[str]) -> int:
    """Fork a process group that runs main.py in the folder; return its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    os.chdir(folder)
    log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["main.py", *arguments]
    os._exit(command_line.run(sys.argv))


def end(child: int, seconds: float | None = None) -> int:
    """Return the exit status of a group, which is killed after so many seconds."""
    deadline = time.monotonic() + (seconds or 1e9)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.002)


def digests(folder: Path) -> dict[str, str]:
    """Return {file: SHA-256} of all files in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(root: Path) -> list[tuple[str, str, str]]:
    """Return type, folder and fingerprint of the artifacts, read from a copy: opening a database repairs it."""
    with tempfile.TemporaryDirectory() as copy:
        for path in root.glob("metadata.sqlite*"):
            shutil.copy(path, copy)
        db = sqlite3.connect(Path(copy, "metadata.sqlite"))
        try:
            if db.execute("PRAGMA user_version").fetchone() == (0,):  # killed before there were tables
                return []
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return db.execute("SELECT type, uri, fingerprint FROM artifact ORDER BY id").fetchall()
        finally:
            db.close()


def check(folder: Path, published: dict[str, dict[str, str]]) -> None:
    """Assert that all artifacts are whole; add to what was published."""
    root, shelf = folder / ".kcnn", folder.parent / "saved_models" / "m"
    for kind, uri, fingerprint in rows(root):
        found = digests(root / uri).items()
        lines = (f"{digest}  {name}\n" for name, digest in found if not name.startswith(ASIDE.get(kind, "\0")))
        assert hashlib.sha256("".join(lines).encode()).hexdigest() == fingerprint, uri
    now = {path.name: digests(path) for path in shelf.glob("[0-9]*")} if shelf.exists() else {}
    for version, files in published.items():
        assert now.get(version) == files, f"version {version} was lost or changed"
    for version, files in now.items():
        whole = next(iter(published.values()), files)
        assert files.keys() == whole.keys(), f"version {version} has {sorted(files.keys() ^ whole.keys())}"
    published.update(now)


def results(folder: Path) -> dict[str, str]:
    """Return {file: digest} of the last artifact of each type, without the files that vary."""
    last = {kind: folder / ".kcnn" / uri for kind, uri, _ in rows(folder / ".kcnn")}
    return {
        f"{kind}/{name}": digest
        for kind, path in last.items()
        for name, digest in digests(path).items()
        if not any(part in f"{path.parent.name}/{name}" for part in VARYING)
    }


def leftovers(folder: Path) -> list[str]:
    """List half-made folders, and locks of processes that ended."""
    found = [*folder.glob(".kcnn/*/*/*.partial"), *folder.glob(".kcnn/.system/*")]
    return [str(path) for path in [*found, *folder.parent.glob("saved_models/*/.*")]]


def kill_at_random(job: str, minutes: float, seed: int) -> None:
    """Kill the job at random moments; raise AssertionError on a fault, and keep the folder then."""
    place = Path(tempfile.mkdtemp(prefix="kills."))
    photos(place / "photos")
    arguments = [*JOBS[job], "--dataset", "../photos", "--offline"]
    published: dict[str, dict[str, str]] = {}
    chance, rounds, kills, began = random.Random(seed), 0, 0, time.monotonic()

    whole = place / "whole"
    whole.mkdir()
    assert end(start(whole, arguments)) == 0, whole / "log"
    duration = time.monotonic() - began
    check(whole, published)
    expected = results(whole)
    print(f"{job}: undisturbed {duration:.0f} s, {len(expected)} files to compare, in {place}", flush=True)

    while time.monotonic() - began < 60 * minutes:
        folder = place / str(rounds)
        folder.mkdir()
        rounds, status = rounds + 1, -signal.SIGKILL
        for _ in range(chance.randint(1, MOST_KILLS)):
            more = ["--noresume"] if job == "train" and chance.random() < 0.5 else []
            status = end(start(folder, [*arguments, *more]), chance.uniform(0, duration))
            assert status in (0, -signal.SIGKILL), (status, folder / "log")
            kills += status != 0
            check(folder, published)
        more = ["--noresume"] if job == "train" and chance.random() < 0.5 else []
        assert end(start(folder, [*arguments, *more])) == 0, folder / "log"
        check(folder, published)
        made = results(folder)
        differing = [name for name in expected.keys() | made.keys() if expected.get(name) != made.get(name)]
        assert not differing, (folder, differing)
        assert not leftovers(folder), leftovers(folder)
        shutil.rmtree(folder)
    print(
        f"{job}: {rounds} rounds, {kills} kills, {len(published)} versions published, none lost or changed", flush=True
    )
    shutil.rmtree(place)


def parse() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []], default=[])
    parser.add_argument("--minutes", type=float, default=10.0, help="of each job")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    load_tensorflow()
    importlib.import_module("pipelines.graphs.image_classification")
    for name in options.jobs or JOBS:
        kill_at_random(name, options.minutes, options.seed)
