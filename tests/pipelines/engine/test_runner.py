"""The runner under what happens to it: kills, a full disk, other runs at once, changes of content; in small steps."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import steps

from kcnn.errors import UserError
from pipelines.engine import metadata, runner

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, steps.__file__]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def begin(root, *more, **arguments):
    command = [*PROGRAM, str(root), json.dumps(arguments), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, out + err
    return out + err


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def states(root):
    with sqlite3.connect(root / "metadata.sqlite") as db:
        return db.execute("SELECT type, state FROM execution ORDER BY id").fetchall()


def done(*names):
    return [(name, "COMPLETE") for name in names]


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_write_it_goes_on_as_if_nothing_had_been(tmp_path, step):
    code = f"import sys, pathlib, steps; print('writes:', steps.kill_everywhere(pathlib.Path(sys.argv[1]), {step}))"
    folder = Path(steps.__file__).parent
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("writes:")[1]) > 100


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_killed_again_and_again(root, seed):
    chance = random.Random(seed)
    status, kills = -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        process = begin(root, "kill", chance.randrange(20, 100), resume=chance.random() < 0.5)
        process.communicate(timeout=120)
        status, kills = process.returncode, kills + 1
        assert kills < 50
    _, expected = steps.undisturbed(root.parent / "whole")
    assert steps.run(root) == expected
    assert steps.check(root) == set()


def test_a_disk_that_fills_is_one_line_and_loses_nothing(tmp_path):
    _, expected = steps.undisturbed(tmp_path / "whole")
    refused = 0
    for limit in (0, 1, 4096, 9000, 40_000, 100_000, 200_000):
        root = tmp_path / str(limit) / "root"
        root.parent.mkdir()
        process = begin(root, "full", limit)
        _, err = process.communicate(timeout=120)
        assert process.returncode in (0, 2), err
        if process.returncode:
            refused += 1
            assert err.startswith(("error: --pipeline_root", "error: Source: cannot write in", "error: Push: ")), err
            assert str(root.parent) in err
            assert len(err.splitlines()) == 1
        assert steps.run(root) == expected
        assert steps.check(root) == set()
    assert refused >= 4


def test_runs_at_once(root):
    _, three = steps.undisturbed(root.parent / "three")
    processes = [begin(root, n=n) for n in (3, 4, 3, 4, 5, 3)]
    for process in processes:
        end(process)
    assert steps.run(root, n=3) == three
    assert steps.run(root, n=4)["Push"]["pushed"]["deep/n"] == b"12"
    assert steps.check(root) == set()
    with sqlite3.connect(root / "metadata.sqlite") as db:
        assert db.execute("SELECT count(*) FROM context WHERE type = 'run'").fetchone() == (8,)
    assert len(list((root.parent / "shelf").iterdir())) == 8


def test_a_run_leaves_alone_what_another_is_at_work_on_until_that_is_dead(root, tmp_path):
    gate = tmp_path / "gate"
    slow = begin(root, n=1, double_gate=str(gate))
    wait_for(tmp_path / "gate.reached", slow)
    steps.run(root, n=2)
    (partial,) = root.glob("*/*/*.partial")
    assert partial.parent == root / "Double" / "doubled"
    assert steps.run(root, n=1, resume=True)["Double"]["doubled"]  # it does not take what another is at work on
    assert partial.exists()
    gate.touch()
    end(slow)
    assert not partial.exists()
    assert steps.check(root) == set()

    dead = begin(root, n=7, gate=str(tmp_path / "other"))
    wait_for(tmp_path / "other.reached", dead)
    dead.kill()
    end(dead, -signal.SIGKILL)
    (partial,) = root.glob("*/*/*.partial")
    steps.run(root, n=2)  # another graph cleans up as well
    assert not partial.exists()
    assert ("Source", "FAILED") in states(root)
    assert steps.check(root) == set()


def test_a_resumable_component_keeps_what_it_had_for_the_same_settings(root, tmp_path):
    killed = begin(root, n=1, double_gate=str(tmp_path / "gate"))
    wait_for(tmp_path / "gate.reached", killed)
    killed.kill()
    end(killed, -signal.SIGKILL)
    steps.run(root, n=2, resume=True)  # other settings: begins anew
    (partial,) = root.glob("*/*/*.partial")
    (tmp_path / "journal").unlink()
    steps.run(root, n=1, resume=True)
    assert not (tmp_path / "journal").exists()  # no step was left to do
    assert not partial.exists()
    assert partial.with_suffix("").is_dir()
    assert steps.check(root) == set()


def test_folders_that_it_did_not_make_stay(root, tmp_path):
    """Also where their names are those of executions that failed: a class called 1, a published version."""
    killed = begin(root, n=1, gate=str(tmp_path / "gate"))
    wait_for(tmp_path / "gate.reached", killed)
    killed.kill()
    end(killed, -signal.SIGKILL)
    mine = [root / "saved_models" / "m" / "1", root / "Source" / "photos" / "1", root / "data" / "cat" / "1.partial"]
    for folder in mine:
        folder.mkdir(parents=True)
        (folder / "file").write_text("mine")
    steps.run(root, n=2)
    assert ("Source", "FAILED") in states(root)
    assert not list(root.glob("Source/number/*.partial"))
    assert all((folder / "file").read_text() == "mine" for folder in mine)


def test_caching_is_by_content(root):
    def ran(**arguments):
        before = len(states(root)) if root.exists() else 0
        steps.run(root, **arguments)
        return [name for name, state in states(root)[before:] if state == "COMPLETE"]

    assert ran() == ["Source", "Double", "Add", "Push"]
    assert ran() == ["Push"]
    assert ran(color="blue") == ["Source", "Push"]  # which made the same bytes
    assert ran(n=4) == ["Source", "Double", "Add", "Push"]
    assert ran(gate=__file__) == ["Push"]  # an ignored parameter
    assert ran() == ["Push"]
    assert states(root)[-4:] == [("Source", "CACHED"), ("Double", "CACHED"), ("Add", "CACHED"), ("Push", "COMPLETE")]
    steps.check(root)


def test_what_changed_or_went_is_made_anew(root, monkeypatch, capsys):
    steps.run(root)
    monkeypatch.setattr(steps, "CODE", "another program")
    steps.run(root)
    assert states(root)[4:] == done("Source", "Double", "Add", "Push")
    capsys.readouterr()
    (root / "Add" / "note" / "7" / "note").unlink()
    (root / "Add" / "note" / "7").rmdir()
    steps.run(root)
    out = capsys.readouterr().out
    assert f"Double: unchanged, already in {root / 'Double' / 'doubled' / '6'}" in out
    assert "Add: at work in" in out
    assert "Add: done in" in out


def test_other_code_of_one_component_redoes_it_and_what_follows_from_other_bytes(root, monkeypatch):
    def ran(changed, **arguments):
        before = len(states(root)) if root.exists() else 0
        reach = runner.reach_component
        with monkeypatch.context() as patch:
            patch.setattr(runner, "reach_component", lambda component, _: {component.name: reach(component, {})})
            patch.setattr(runner, "digest_files", lambda files: f"{changed if changed in files else 'as it was'}")
            made = runner.run_nodes(steps.graph(root.parent, **arguments), root)
        assert made["Push"]["pushed"].read() == 9
        return [name for name, state in states(root)[before:] if state == "COMPLETE"]

    assert ran("") == ["Source", "Double", "Add", "Push"]
    assert ran("Double") == ["Double", "Push"]  # which made the same bytes
    assert ran("Add") == ["Add", "Push"]
    assert ran("Nothing") == ["Push"]


def dead_run(root, component, when):
    program = "import sys, pathlib, steps; steps.run_and_die(pathlib.Path(sys.argv[1]), *sys.argv[2:])"
    command = [sys.executable, "-c", program, str(root), component, when]
    killed = subprocess.run(command, cwd=Path(steps.__file__).parent, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.mark.parametrize("when", ["flush", "describe", "publish", "rename"])
def test_what_a_component_has_finished_is_not_done_again(root, when):
    """A kill between the component's return and its row in the database."""
    dead_run(root, "Double", when)
    assert (root.parent / "journal").read_text() == "012"
    assert steps.check(root) != set()
    made = steps.run(root, resume=True)
    assert (root.parent / "journal").read_text() == "012"
    assert made["Double"]["doubled"].keys() == {"data", "deep/n"}  # without its state
    assert steps.check(root) == set()


def test_what_had_returned_is_published_by_another_version_of_the_program(root, monkeypatch):
    """The version that made it has described it. Nothing is asked of the component again."""
    dead_run(root, "Add", "publish")
    with monkeypatch.context() as patch:
        patch.setattr(steps.Number, "properties", lambda self: 1 / 0)
        steps.run(root, last="Source")
    assert states(root)[:3] == done("Source", "Double", "Add")
    steps.run(root)
    assert states(root)[4:] == [("Source", "CACHED"), ("Double", "CACHED"), ("Add", "CACHED"), *done("Push")]
    assert steps.check(root) == set()


def test_a_root_can_be_moved(root):
    made = steps.run(root)
    moved = root.with_name("moved")
    root.rename(moved)
    assert steps.run(moved) == made
    assert [state for _, state in states(moved)[4:]] == ["CACHED", "CACHED", "CACHED", "COMPLETE"]
    assert steps.check(moved) == set()


def test_folders_outlive_a_database_that_is_deleted(root):
    steps.run(root)
    before = steps.files(root / "Double")
    (root / "Source" / "number" / "0123456789abcdef").mkdir()  # as an older version named them
    (root / "metadata.sqlite").unlink()
    steps.run(root)
    assert before.items() <= steps.files(root / "Double").items()
    assert len(steps.check(root)) == 6


def test_parts_of_the_pipeline(root, capsys):
    with pytest.raises(UserError, match=r"^Source is needed and not finished .* with --to Source$"):
        steps.run(root, first="Double", last="Double")
    assert states(root) == []
    assert steps.run(root, last="Double").keys() == {"Source", "Double"}
    assert states(root) == done("Source", "Double")
    with pytest.raises(UserError, match="Add is needed and not finished"):
        steps.run(root, first="Push")
    steps.run(root, first="Add")
    assert states(root)[-4:] == [("Source", "CACHED"), ("Double", "CACHED"), *done("Add", "Push")]
    steps.run(root, first="Push", last="Push")
    assert states(root)[-4:] == [("Source", "CACHED"), ("Double", "CACHED"), ("Add", "CACHED"), *done("Push")]
    with pytest.raises(UserError, match="Source is needed and not finished"):  # with these settings
        steps.run(root, first="Double", n=9)
    assert steps.check(root) == set()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"first": "Duoble"}, "--from 'Duoble': did you mean 'Double'?"),
        ({"last": "zzz"}, "--to 'zzz': choose from Source, Double, Add, Push"),
        ({"first": "Sorce", "last": "Sorce"}, "--only 'Sorce': did you mean 'Source'"),
        ({"first": "Push", "last": "Add"}, "--from Push --to Add: Add takes nothing from Push"),
    ],
)
def test_parts_that_are_not(root, part, message):
    with pytest.raises(UserError, match=message):
        steps.run(root, **part)
    assert not root.exists()


def test_the_end_is_a_table_of_what_was_made_and_where(root, capsys):
    steps.run(root, last="Add")
    capsys.readouterr()
    steps.run(root)
    rows = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert [row.split()[0] for row in rows] == ["component", "Source", "Double", "Add", "Push"]
    assert rows[0].split() == ["component", "seconds", "outcome", "folder"]
    assert rows[1].split() == ["Source", "unchanged", str(root / "Source" / "number" / "1")]
    assert rows[4].split()[2:] == ["done", str(root / "Push" / "pushed" / "7")]
    assert 0 <= float(rows[4].split()[1]) < 60


def test_a_run_says_what_became_of_it(root, monkeypatch):
    steps.run(root)
    monkeypatch.setattr(steps, "STEPS", None)
    with pytest.raises(TypeError):
        steps.run(root, n=5)
    with metadata.connect(root) as db:
        facts = [row["properties"] for row in metadata.find_runs(db)]
        (failed,) = metadata.find_executions(db, "state = 'FAILED'")
    assert [row["state"] for row in facts] == ["COMPLETE", "FAILED"]
    assert "TypeError" in facts[1]["error"]
    assert failed["type"] == "Double"
    assert "TypeError" in failed["properties"]["error"]
