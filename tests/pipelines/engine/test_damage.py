"""Damage of the database, and hostile rows: one line, nothing removed, and a way out that works."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import steps

from kcnn.errors import UserError
from pipelines.engine import locks, metadata, recovery
from pipelines.engine.backup import BACKUP
from pipelines.reports.lineage import find_lineage
from pipelines.reports.runs import compare_runs, list_runs

DATABASE = "metadata.sqlite"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Make a root after a run, with its backup."""
    root = tmp_path_factory.mktemp("finished") / "root"
    steps.run(root)
    return root


@pytest.fixture
def root(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "root")
    (tmp_path / "outside" / "number" / "1").mkdir(parents=True)
    return tmp_path / "root"


def folders(root):
    return {path for path in root.parent.rglob("*") if DATABASE not in str(path) and ".system" not in str(path)}


def refusals(root):
    """Run, and ask; returns the lines of those that were refused. Nothing may be removed, whatever happens."""
    before = folders(root)
    asked = [
        lambda: steps.run(root),
        lambda: list_runs(root),
        lambda: compare_runs(root, (1, 1)),
        lambda: find_lineage(root, root / "Push" / "pushed" / "4"),
    ]
    lines = []
    for ask in asked:
        try:
            ask()
        except UserError as error:
            lines.append(str(error))
    assert all("\n" not in line and len(line) < 1000 for line in lines)
    assert before <= folders(root)
    return lines


def page(number):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[4096 * number : 4096 * (number + 1)] = b"\xa5" * 4096
        path.write_bytes(content)

    return damage


DAMAGE = {
    "nothing in it": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("text" * 1000),
    "cut": lambda path: os.truncate(path, 5000),
    "first page": page(0),
    "another page": page(3),
    "folder": lambda path: (path.unlink(), path.mkdir(), (path / "file").touch()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "pipe beside it": lambda path: os.mkfifo(path.with_name(f"{DATABASE}-wal")),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_database_is_one_line_and_its_backup_brings_it_back(root, how):
    DAMAGE[how](root / DATABASE)
    lines = refusals(root)
    assert any("metadata.sqlite: damaged: " in line for line in lines)
    (line,) = {line[line.index("nothing was removed") :] for line in lines if "damaged" in line}
    *_, aside, back = line.split(": ", 2)[-1].split("; ")  # the commands, as a user would run them
    aside = line[line.index("mv ") : line.index("; cp ")]
    back = line[line.index("cp ") :]
    (root.parent / "aside").mkdir()
    for command in (aside.replace("ELSEWHERE", str(root.parent / "aside")), back):
        subprocess.run(command, shell=True, check=True)
    assert steps.run(root)["Push"]["pushed"]["deep/n"] == b"9"
    assert [row["state"] for row in list_runs(root)] == ["COMPLETE"] * 2
    assert not list(root.glob("Source/number/[2-9]"))  # found again, not done again


@pytest.mark.parametrize("how", ["text", "folder"])
def test_without_a_backup_a_new_record_begins_beside_the_old_folders(root, how):
    (root / BACKUP).unlink()
    DAMAGE[how](root / DATABASE)
    assert all("to begin a new record" in line for line in refusals(root))
    (root / DATABASE).rename(root.parent / "aside")
    steps.run(root)
    assert (root / "Source" / "number" / "1").is_dir()
    assert (root / "Source" / "number" / "5").is_dir()  # after the highest number of a folder


def test_an_older_record_takes_no_number_of_a_folder_that_it_does_not_know(root):
    shutil.copy(root / BACKUP, root.parent / "older")
    steps.run(root, n=7)
    (root / DATABASE).unlink()
    (root.parent / "older").rename(root / DATABASE)
    steps.run(root, n=8)
    assert sorted(path.name for path in root.glob("Source/number/*")) == ["1", "5", "9"]


SQL = {
    "no table": "DROP TABLE attribution",
    "no column": "ALTER TABLE execution DROP COLUMN state",
    "another column": "ALTER TABLE artifact RENAME COLUMN uri TO url",
    "a view without end": "ALTER TABLE artifact RENAME TO old; CREATE VIEW artifact AS WITH RECURSIVE c(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT old.* FROM old, c",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON context BEGIN DELETE FROM event; END",
    "version 0": "PRAGMA user_version = 0",
    "version -1": "PRAGMA user_version = -1",
    "the highest number": "UPDATE sqlite_sequence SET seq = 9223372036854775807",
    "nothing made": "DELETE FROM event WHERE type = 'OUTPUT'",
    "itself": "UPDATE event SET artifact = 5 WHERE type = 'INPUT'",
    "unfinished": "UPDATE execution SET state = 'FAILED'",
    "running": "UPDATE execution SET state = 'RUNNING'",
    "a component outside": "UPDATE execution SET type = '../outside', state = 'FAILED'",
    "an output outside": "UPDATE execution SET state = 'FAILED', properties = "
    """json_set(properties, '$.outputs', json('{"../../outside/number": "Number"}'))""",
    "scratch outside": "UPDATE execution SET properties = json_set(properties, "
    """'$.returned', json('{"number": {"scratch": ["../*"]}}'))""",
    "an artifact outside": "UPDATE artifact SET uri = '../outside/number/' || id",
    "an artifact at the root": "UPDATE artifact SET uri = '/etc/' || id",
}


@pytest.mark.parametrize("how", SQL)
def test_what_no_program_of_ours_writes_is_refused(root, how):
    alter(root, SQL[how])
    refused = refusals(root)
    assert refused
    assert "metadata.sqlite: damaged: " in refused[0]


def alter(root, script, *values):
    with contextlib.closing(sqlite3.connect(root / DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute(script, values) if values else db.executescript(script)


CELLS = [b"\xff\xfe", "../x\0", -1, float("inf"), "[]", '{"a":' * 5000 + "1" + "}" * 5000]


@pytest.mark.parametrize("table", ["artifact", "execution", "event", "context"])
def test_a_hostile_cell_ends_nothing_with_a_traceback(root, table):
    with sqlite3.connect(root / DATABASE) as db:
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    db.close()
    for column in columns:
        for value in CELLS:
            shutil.copy(root / BACKUP, root / DATABASE)
            try:
                alter(root, f"UPDATE {table} SET {column} = ? WHERE rowid = 2", value)
            except sqlite3.Error:  # SQLite holds no such value there
                continue
            refusals(root)


def test_the_runs_that_are_sound_are_listed(root, capsys):
    steps.run(root, n=5)
    alter(root, "UPDATE context SET properties = '[]' WHERE name = '1'")
    assert [row["run"] for row in list_runs(root)] == [2]
    assert "metadata.sqlite: damaged: run 2: properties: expected a JSON object" in capsys.readouterr().err


@pytest.mark.parametrize(
    "named", [("shutil", "rmtree"), ("os", "system"), ("antigravity", "x"), ("pipelines.artifacts", "json"), ("", "x")]
)
def test_no_row_calls_anything_but_a_class_of_artifacts(named):
    assert recovery._find_kind(*named) is None
    assert recovery._find_kind("steps", "Number") is steps.Number


def test_a_database_that_another_process_has_locked(root, monkeypatch):
    monkeypatch.setattr(metadata, "SECONDS_TO_ASK", 0.1)
    db = sqlite3.connect(root / DATABASE)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match="another process has locked it: database is locked"):
        list_runs(root)
    db.close()
    assert len(list_runs(root)) == 1


@pytest.mark.parametrize("name", ["run-x.lock", "run-.lock", "run-\u0662.lock", f"run-{'9' * 100}.lock", "run--1.lock"])
def test_odd_names_of_locks_are_left_alone(root, name):
    (root / ".system" / name).touch()
    (root / ".system" / "run-7.lock").mkdir()
    os.mkfifo(root / ".system" / "run-8.lock")
    (root / ".system" / "run-9.lock").symlink_to("run-9.lock")
    steps.run(root)
    assert {path.name for path in (root / ".system").iterdir()} == {name, "run-7.lock", "run-8.lock", "run-9.lock"}
    assert locks.is_alive(root, 9)  # for all that can be said
    os.mkdir(root / ".system" / "run-3.lock")
    with pytest.raises(UserError, match=r"cannot be written: .*run-3\.lock: Is a directory"):
        steps.run(root)


def test_what_a_killed_process_left_in_the_write_ahead_log_is_kept(root):
    code = (
        "import os, sys, pathlib, signal; from pipelines.engine import metadata\n"
        "db = metadata.connect(pathlib.Path(sys.argv[1]))\n"
        "with metadata.transaction(db): metadata.begin_run(db, 'p', {})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (root / f"{DATABASE}-wal").stat().st_size
    assert [row["state"] for row in list_runs(root)] == ["COMPLETE", "INTERRUPTED"]
