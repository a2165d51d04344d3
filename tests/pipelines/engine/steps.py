"""Small components, and a program that runs them in a process of its own, which may be made to die or to starve.

python steps.py ROOT '{"n": 4, "resume": true}'                what `graph` takes, and what `runner.run` takes
python steps.py ROOT '{}' kill 17                              dies by SIGKILL before its 17th write
python steps.py ROOT '{}' full 5000                            cannot write files longer than 5000 bytes
"""

import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import time
import traceback
import unittest.mock
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from kcnn import content
from kcnn.errors import UserError
from pipelines.engine import execution, runner
from pipelines.engine.component import Artifact, Output, component

STEPS = 3
CODE = "this program"  # instead of the code's digest: someone may edit it while the tests run
DATA = b"0123456789" * 1000


class Number(Artifact):
    def read(self):
        return int((self.path / "deep" / "n").read_text())

    def write(self, n):
        (self.path / "deep").mkdir(exist_ok=True)
        (self.path / "data").write_bytes(DATA)
        (self.path / "deep" / "n").write_text(str(n))

    def properties(self):
        return {"n": self.read()}


class Doubled(Number):
    """A number that was made step by step; `state` tells how many are done, `state_of_steps` holds a file of each."""

    scratch = ("state*",)


class Text(Artifact):
    pass


def wait(gate):
    """Wait until the file is there, when there is a gate; makes another file first."""
    if gate:
        Path(f"{gate}.reached").touch()
        while not Path(gate).exists():
            time.sleep(0.01)


@component(ignored=("gate",))
def source(n: int, color: str, numbers: int, gate: str | None, number: Output[Number]) -> None:
    """Write the number, whatever the color."""
    number.write(n)
    if numbers:
        np.save(number.path / "numbers.npy", np.arange(numbers))
    wait(gate)


@component(resumable=True, ignored=("gate", "root"))
def double(root: str, gate: str | None, number: Number, doubled: Output[Doubled]) -> None:
    """Take the steps that are not done yet. The journal outlives the component."""
    state = doubled.path / "state"
    for step in range(int(state.read_text()) if state.exists() else 0, STEPS):
        with Path(root, "journal").open("a") as journal:
            journal.write(f"{step}")
        temporary = doubled.path / "state.temporary"
        temporary.write_text(str(step + 1))
        os.replace(temporary, state)
        steps = doubled.path / "state_of_steps"
        steps.mkdir(exist_ok=True)
        (steps / str(step)).write_text("done")
    wait(gate)
    doubled.write(2 * number.read())


@component
def add(number: Number, doubled: Number, total: Output[Number], note: Output[Text]) -> None:
    total.write(number.read() + doubled.read())
    (note.path / "note").write_text("added")


@component(cached=False)
def push(root: str, total: Number, note: Text, pushed: Output[Number]) -> None:
    """Publish outside of the root, by a rename."""
    shelf = Path(root, "shelf")
    shelf.mkdir(exist_ok=True)
    staged = shelf / f".{os.getpid()}"
    shutil.copytree(total.path, staged)
    version = 1 + max((int(path.name) for path in shelf.glob("[0-9]*")), default=0)
    while True:
        try:
            staged.rename(shelf / str(version))
            break
        except OSError:
            version += 1
    pushed.write(total.read())


def graph(root, n=3, color="red", numbers=0, gate=None, double_gate=None):
    number = source(n=n, color=color, numbers=numbers, gate=gate).outputs["number"]
    doubled = double(root=str(root), gate=double_gate, number=number).outputs["doubled"]
    added = add(number=number, doubled=doubled).outputs
    pushed = push(root=str(root), total=added["total"], note=added["note"]).outputs["pushed"]
    return [port.node for port in (number, doubled, added["total"], pushed)]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(root, resume=False, first=None, last=None, **arguments):
    """Run the graph; returns component → output → file → content."""
    with unittest.mock.patch.object(runner, "digest_files", return_value=CODE):
        made = runner.run_nodes(graph(root.parent, **arguments), root, resume=resume, first=first, last=last)
    return {
        name: {output: files(artifact.path) for output, artifact in outputs.items()} for name, outputs in made.items()
    }


def check(root):
    """Compare the metadata, asked of SQLite itself, with the folders; returns the folders without a row."""
    db = sqlite3.connect(root / "metadata.sqlite")

    def ask(query):
        return db.execute(query).fetchall()

    assert ask("PRAGMA integrity_check") == [("ok",)]
    assert ask("PRAGMA foreign_key_check") == []
    if ask("PRAGMA user_version") == [(0,)]:  # killed before there were tables
        assert not list(root.glob("*/*/*"))
        return set()
    rows = ask("SELECT uri, fingerprint FROM artifact")
    for uri, fingerprint in rows:
        assert (root / uri).is_dir(), uri
        lines = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files(root / uri).items())
        told = "".join(f"{digest}  {name}\n" for name, digest in lines)
        assert fingerprint == hashlib.sha256(told.encode()).hexdigest(), uri
    inputs = {"Source": set(), "Double": {"number"}, "Add": {"number", "doubled"}, "Push": {"total", "note"}}
    outputs = {"Source": {"number"}, "Double": {"doubled"}, "Add": {"total", "note"}, "Push": {"pushed"}}
    for number, type_, state in ask("SELECT id, type, state FROM execution"):
        events = ask(f"SELECT type, name FROM event WHERE execution = {number}")
        assert {name for kind, name in events if kind == "INPUT"} == inputs[type_]
        made = {name for kind, name in events if kind == "OUTPUT"}
        assert made == (outputs[type_] if state in ("COMPLETE", "CACHED") else set())
        contexts = ask(f"SELECT type FROM context JOIN association ON id = context WHERE execution = {number}")
        assert {kind for (kind,) in contexts} == {"pipeline", "run"}
    assert ask("SELECT count(*) FROM artifact WHERE id NOT IN (SELECT artifact FROM attribution)") == [(0,)]
    published = {uri for uri, _ in rows}
    unknown = {str(path.relative_to(root)) for path in root.glob("*/*/*")} - published
    db.close()
    return unknown


def die_before(count):
    """Kill this process before the write of that number: of a file, a folder, a name, a lock or a statement."""
    written = 0

    def tick():
        nonlocal written
        written += 1
        if written == count:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event, arguments):
        if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "fcntl.flock") or (
            event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            tick()

    def reads(statement):
        return statement.startswith("SELECT") or (statement.startswith("PRAGMA") and "=" not in statement)

    connect = sqlite3.connect

    def traced(*arguments, **options):
        db = connect(*arguments, **options)
        if arguments[0] != ":memory:":
            db.set_trace_callback(lambda statement: None if reads(statement) else tick())
        return db

    sqlite3.connect = traced
    sys.addaudithook(hook)


def forked(function, *arguments):
    """Call the function in a child process; returns the status of its end, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
            os._exit(0)
        except UserError:
            os._exit(2)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_run(root, count):
    die_before(count)
    run(root)


def run_and_die(root, component, when):
    """Kill this process after the component has returned, when the runner flushes, describes, publishes or renames."""
    place = f"/{component}/"

    def dying(function):
        def call(*arguments):
            if any(place in f"{argument}/" or argument == component for argument in arguments[:2]):
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    if when == "flush":
        content.flush = dying(content.flush)
    elif when == "describe":
        content.fingerprint = dying(content.fingerprint)
    elif when == "publish":
        execution.publish_outputs = dying(execution.publish_outputs)
    else:
        Path.rename = dying(Path.rename)
    run(root)


def without_waiting_for_the_disk():
    """Make writes quick: what survives a killed process need not have left the machine's memory."""
    connect = sqlite3.connect

    def unsynchronised(*arguments, **options):
        db = connect(*arguments, **options)
        db.execute("PRAGMA synchronous = OFF")
        return db

    sqlite3.connect = unsynchronised
    os.fsync = lambda descriptor: None


def undisturbed(folder):
    """Run in a new root; returns the root and what the run made."""
    root = folder / "root"
    root.parent.mkdir(parents=True)
    return root, run(root)


def afterwards(root, expected, resume):
    """Check that a run after a disturbance makes what an undisturbed one does, and leaves nothing else."""
    made = run(root, resume=resume)
    assert made == expected, made
    assert check(root) == set(), check(root)
    assert not list((root / ".system").iterdir())
    db = sqlite3.connect(root / "metadata.sqlite")
    assert db.execute("SELECT count(*) FROM execution WHERE state = 'RUNNING'").fetchone() == (0,)
    db.close()
    shelf = list((root.parent / "shelf").glob("[0-9]*"))
    assert all(files(path) == expected["Push"]["pushed"] for path in shelf)
    assert 1 <= len(shelf) <= 2


def kill_everywhere(folder, step):
    """Die before each write in turn, or before one in `step`, and go on after it; return the last write's number."""
    without_waiting_for_the_disk()
    _, expected = undisturbed(folder / "whole")
    for count in itertools.count(1, step):
        root = folder / str(count) / "root"
        root.parent.mkdir()
        status = forked(dying_run, root, count)
        if status == 0:
            return count
        assert status == -signal.SIGKILL, (count, status)
        if (root / "metadata.sqlite").exists():  # a copy, since to look at it mends it
            shutil.copytree(root, folder / "copy")
            assert forked(check, folder / "copy") == 0, count
            shutil.rmtree(folder / "copy")
        for resume in (True, False):
            again = folder / f"{count}.{resume}"
            shutil.copytree(root.parent, again)
            assert forked(afterwards, again / "root", expected, resume) == 0, (count, resume)
            journal = (again / "journal").read_text()
            if resume:  # a step that was begun is done again, no other
                assert journal in ("012", "0012", "0112", "0122"), (count, journal)


def main(root, arguments, disturbance=None, amount=0):
    if disturbance == "kill":
        die_before(int(amount))
    elif disturbance == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(amount), int(amount)))
    try:
        run(Path(root), **json.loads(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
