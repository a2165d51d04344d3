"""The database itself: its versions, its locks, many processes at once."""

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import steps

from kcnn.errors import UserError
from pipelines.engine import locks, metadata

ROOT = Path(__file__).parents[3]


def version(root):
    with sqlite3.connect(root / "metadata.sqlite") as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_the_tables_are_those_of_ml_metadata(tmp_path):
    metadata.connect(tmp_path, create=True).close()
    with sqlite3.connect(tmp_path / "metadata.sqlite") as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"artifact", "execution", "event", "context", "association", "attribution"} <= tables
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert version(tmp_path) == len(metadata.MIGRATIONS) >= 1


def test_an_older_version_is_brought_up_to_date(tmp_path, monkeypatch):
    root = tmp_path / "root"
    made = steps.run(root)
    monkeypatch.setattr(
        metadata,
        "MIGRATIONS",
        [*metadata.MIGRATIONS, "ALTER TABLE artifact ADD COLUMN note TEXT; UPDATE artifact SET note = type"],
    )
    assert version(root) == len(metadata.MIGRATIONS) - 1
    assert steps.run(root) == made
    assert version(root) == len(metadata.MIGRATIONS)
    with sqlite3.connect(root / "metadata.sqlite") as db:
        assert db.execute("SELECT count(*) FROM artifact WHERE note IN ('Number', 'Doubled')").fetchone() == (4,)
    assert steps.check(root) == set()


def test_the_first_version_is_brought_up_to_date(tmp_path):
    root = tmp_path / "root"
    made = steps.run(root)
    with sqlite3.connect(root / "metadata.sqlite") as db:
        db.executescript(
            "ALTER TABLE artifact DROP COLUMN files; ALTER TABLE artifact DROP COLUMN bytes; PRAGMA user_version = 1"
        )
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(artifact)")]
    assert columns == ["id", "type", "uri", "fingerprint", "created", "properties"]
    assert steps.run(root) == made
    with sqlite3.connect(root / "metadata.sqlite") as db:
        states = [state for (state,) in db.execute("SELECT state FROM execution ORDER BY id")]
        assert states == ["COMPLETE"] * 4 + ["CACHED"] * 3 + ["COMPLETE"]
        assert db.execute("SELECT count(*) FROM artifact WHERE bytes IS NULL").fetchone() == (5,)
    assert steps.check(root) == set()


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    root = tmp_path / "root"
    made = steps.run(root)
    with monkeypatch.context() as patch:
        script = "ALTER TABLE artifact ADD COLUMN note TEXT; nonsense"
        patch.setattr(metadata, "MIGRATIONS", [*metadata.MIGRATIONS, script])
        with pytest.raises(UserError, match="nonsense"):
            metadata.connect(root)
    assert steps.run(root) == made


def test_a_newer_version_is_refused_in_one_line_and_left_alone(tmp_path):
    root = tmp_path / "root"
    steps.run(root)
    with sqlite3.connect(root / "metadata.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    before = steps.files(root)
    with pytest.raises(UserError, match=r"metadata.sqlite is of version 99, .* knows versions up to 2$"):
        steps.run(root)
    assert steps.files(root).keys() == before.keys()
    assert version(root) == 99


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "metadata.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"metadata\.sqlite: damaged: file is not a database; .* mv "):
        steps.run(tmp_path)
    with pytest.raises(UserError, match="no pipeline has run in it"):
        metadata.connect(tmp_path / "other")


def test_many_open_a_new_database_at_once(tmp_path):
    code = (
        "import sys, time, pathlib; from pipelines.engine import metadata\n"
        "root, start = pathlib.Path(sys.argv[1]), float(sys.argv[2])\n"
        "for round in range(5):\n"
        "    time.sleep(max(0, start + round / 5 - time.time()))\n"
        "    folder = root / str(round); folder.mkdir(exist_ok=True)\n"
        "    db = metadata.connect(folder, create=True)\n"
        "    with metadata.transaction(db): metadata.begin_run(db, 'p', {})\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(time.time() + 1)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    for folder in tmp_path.iterdir():
        with metadata.connect(folder) as db:
            assert [row["name"] for row in metadata.find_runs(db)] == list("123456")


def test_what_is_no_number_is_null_to_sqlite(tmp_path):
    with metadata.connect(tmp_path, create=True) as db:
        metadata.add_artifact(db, "Model", "a/b/1", "f", 1, 5, {"loss": math.nan, "best": [math.inf, 1.5]})
        assert db.execute("SELECT json_extract(properties, '$.best[1]') AS x FROM artifact").fetchone() == {"x": 1.5}
        assert db.execute("SELECT * FROM artifact").fetchone()["properties"] == {"loss": None, "best": [None, 1.5]}


def test_what_fails_within_a_transaction_did_not_happen(tmp_path):
    db = metadata.connect(tmp_path, create=True)

    def begin_and_fail():
        with metadata.transaction(db):
            metadata.begin_run(db, "p", {})
            metadata.connect_outputs(db, 5, {"x": 7})  # there is no such execution

    with pytest.raises(sqlite3.IntegrityError):
        begin_and_fail()
    assert metadata.find_runs(db) == []
    db.close()


def test_a_lock_ends_with_its_process_though_a_forked_worker_lives_on(tmp_path):
    code = (
        "import os, sys, time, pathlib; from pipelines.engine import locks\n"
        "with locks.hold_lock(pathlib.Path(sys.argv[1]), 5):\n"
        "    worker = os.fork()\n"
        "    if worker: print(worker, flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = int(holder.stdout.readline())
    try:
        time.sleep(0.2)  # until the worker has begun
        assert locks.is_alive(tmp_path, 5)
        assert locks.is_alive(tmp_path, 5)  # asking does not take it
        locks.remove_dead_locks(tmp_path)
        assert locks.is_alive(tmp_path, 5)
        holder.kill()
        holder.wait()
        os.kill(worker, 0)  # is there still
        assert not locks.is_alive(tmp_path, 5)
        locks.remove_dead_locks(tmp_path)
        assert not list((tmp_path / ".system").iterdir())
    finally:
        os.kill(worker, signal.SIGKILL)
        holder.stdout.close()
    assert not locks.is_alive(tmp_path, 6)


def test_it_can_be_read_without_the_program(tmp_path):
    """A copy of the folder, by other means than this program's."""
    root = tmp_path / "root"
    steps.run(root, n=4)
    shutil.copytree(root, tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy" / "metadata.sqlite") as db:
        query = (
            "SELECT a.uri, json_extract(a.properties, '$.n'), json_extract(e.properties, '$.parameters.n') "
            "FROM execution e JOIN event v ON v.execution = e.id JOIN artifact a ON a.id = v.artifact "
            "WHERE v.type = 'OUTPUT' AND e.type = 'Source'"
        )
        assert db.execute(query).fetchall() == [("Source/number/1", 4, 4)]
