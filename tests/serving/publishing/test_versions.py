"""The folder of versions: what appears in it, what goes, and what dead publishers leave."""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kcnn.errors import UserError
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import CARD, read_card, write_card
from kcnn.serving.publishing.labels import assign_labels, current_labels
from kcnn.serving.publishing.pruning import prune_versions
from kcnn.serving.publishing.release import versions_table
from kcnn.serving.publishing.rollback import original_number, republish_version

ROOT = Path(__file__).parents[3]
PUBLISH = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.pruning import prune_versions

def write(folder):
    folder.mkdir()
    (folder / "saved_model.pb").write_text(str(os.getpid()))
    if sys.argv[4] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "rest").write_text(str(os.getpid()))

for _ in range(int(sys.argv[3])):
    versions.publish_version(Path(sys.argv[2]), write)
    if sys.argv[4] == "keep":
        prune_versions(Path(sys.argv[2]), 3)
"""


def publisher(folder, times=1, how="live"):
    return subprocess.Popen([sys.executable, "-c", PUBLISH, str(ROOT), str(folder), str(times), how])


def publish(folder, text="x"):
    def write(staged):
        staged.mkdir()
        (staged / "saved_model.pb").write_text(text)

    return versions.publish_version(folder, write)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "name", ["\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT TWO}", "x", "-1", "1.0", "1 ", str(2**63), "9" * 250]
)
def test_folders_that_no_server_takes_for_a_version_are_none(name, tmp_path):
    publish(tmp_path)
    publish(tmp_path).rename(tmp_path / name)
    assert versions.version_number(name) is None
    assert versions.complete_versions(tmp_path) == [tmp_path / "1"]
    assert publish(tmp_path) == tmp_path / "2"


def test_numbers_end_with_int64(tmp_path):
    assert versions.version_number("0" * 5000 + "7") == 7
    assert versions.version_number("9" * 5000) is None
    publish(tmp_path).rename(tmp_path / str(versions.HIGHEST))
    assert versions.complete_versions(tmp_path) == [tmp_path / str(versions.HIGHEST)]
    with pytest.raises(UserError, match="is the highest that there can be"):
        publish(tmp_path)
    assert names(tmp_path) == [str(versions.HIGHEST)]
    (tmp_path / "labels.json").write_text('{"stable": 1' + "0" * 400 + "}")
    assert current_labels(tmp_path) == {"canary": versions.HIGHEST}  # stable is on a version that cannot be


def test_numbers_count_up_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "models" / "m"
    assert publish(folder) == folder / "1"
    (folder / "7").mkdir()
    (folder / "notes").mkdir()
    assert publish(folder) == folder / "8"
    assert names(folder) == ["1", "7", "8", "notes"]
    assert [path.name for path in versions.list_versions(folder)] == ["1", "7", "8"]


def test_numbers_that_no_server_takes_are_no_versions(tmp_path):
    for name in ("1", "9223372036854775807", "9223372036854775808", "\u0663", "1" * 30, "-2"):
        (tmp_path / name).mkdir()
    assert [path.name for path in versions.list_versions(tmp_path)] == ["1", "9223372036854775807"]
    with pytest.raises(UserError, match="is the highest that there can be"):
        publish(tmp_path)


def test_a_publisher_that_fails_leaves_nothing(tmp_path):
    publish(tmp_path)

    def write(staged):
        staged.mkdir()
        (staged / "half").touch()
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        versions.publish_version(tmp_path, write)
    assert names(tmp_path) == ["1"]


def test_what_a_killed_publisher_left_goes_with_the_next(tmp_path):
    assert publisher(tmp_path, how="die").wait() == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    assert (left / "version" / "saved_model.pb").exists()
    publish(tmp_path)
    assert names(tmp_path) == ["1"]


def test_many_at_once_each_get_a_number_and_the_newest_stay(tmp_path):
    several = [publisher(tmp_path, 15), publisher(tmp_path, 15), publisher(tmp_path, 15, "keep")]
    assert [process.wait() for process in several] == [0, 0, 0]
    found = versions.list_versions(tmp_path)
    assert found[-1].name == "45"
    assert found[-3:] == [tmp_path / "43", tmp_path / "44", tmp_path / "45"]
    for version in found:
        assert (version / "saved_model.pb").read_text() == (version / "rest").read_text()
    assert names(tmp_path) == sorted(path.name for path in found)


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(folder, host, pid):
    path = folder / f".{host}.{pid}.abc.partial"
    (path / "version").mkdir(parents=True)
    return path


def test_leftovers_of_others_are_left_until_they_are_old(tmp_path, monkeypatch):
    here, dead = platform.node(), dead_pid()
    gone = leftover(tmp_path, here, dead)
    alive = leftover(tmp_path, here, os.getpid())
    elsewhere = leftover(tmp_path, f"{here}2", dead)
    unnamed = tmp_path / f".{dead}.partial"  # as older versions of this program wrote it: on which machine?
    unnamed.mkdir()
    removed = tmp_path / ".3.elsewhere.1.removed"
    removed.mkdir()
    versions.remove_leftovers(tmp_path)
    assert not gone.exists()
    assert not removed.exists()
    assert alive.exists()
    assert elsewhere.exists()
    assert unnamed.exists()
    now = versions.time.time()
    monkeypatch.setattr(versions.time, "time", lambda: now + 25 * 3600)
    versions.remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_a_lock_tells_a_live_publisher_where_its_number_does_not(tmp_path):
    """Stand for containers that have one host name."""
    path = leftover(tmp_path, platform.node(), dead_pid())
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    versions.remove_leftovers(tmp_path)
    assert path.exists()
    os.close(descriptor)
    versions.remove_leftovers(tmp_path)
    assert not path.exists()


def test_keep(tmp_path):
    for _ in range(5):
        publish(tmp_path)
    assert prune_versions(tmp_path, 5) == []
    assert prune_versions(tmp_path, 2) == ["1", "2", "3"]
    assert names(tmp_path) == ["4", "5"]
    assert publish(tmp_path).name == "6"  # no number is used twice
    with pytest.raises(ValueError, match="expected 2 or more"):
        prune_versions(tmp_path, 1)
    assert names(tmp_path) == ["4", "5", "6"]


def test_a_version_goes_by_a_rename_the_oldest_first(tmp_path, monkeypatch):
    for _ in range(4):
        publish(tmp_path)
    seen = []
    monkeypatch.setattr(versions.shutil, "rmtree", lambda path, **_: seen.append((path.name, names(tmp_path))))
    prune_versions(tmp_path, 2)
    assert [name.split(".")[1] for name, _ in seen] == ["1", "2"]
    for name, there in seen:
        assert name in there  # whole, under a hidden name
        assert name.endswith(".removed")
        assert name.split(".")[1] not in there
        assert {"3", "4"} <= set(there)


def test_digest_is_of_what_is_served(tmp_path):
    one, two = publish(tmp_path, "a"), publish(tmp_path, "a")
    (two / "assets.extra").mkdir()
    (two / "assets.extra" / "card.json").write_text("{}")
    assert versions.version_digest(one) == versions.version_digest(two)
    (two / "variables").mkdir()
    (two / "variables" / "variables.index").write_text("w")
    assert versions.version_digest(one) != versions.version_digest(two)


def with_card(folder, text, card):
    def write(staged):
        staged.mkdir()
        (staged / "saved_model.pb").write_text(text)
        (staged / "variables").mkdir()
        (staged / "variables" / "index").write_text("w")
        write_card(staged, card)

    return versions.publish_version(folder, write)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def three(tmp_path):
    for number in (1, 2, 3):
        with_card(tmp_path, f"model {number}", {"model": f"m{number}"})
    return tmp_path


def test_a_rollback_serves_the_earlier_version_and_changes_nothing(three):
    before = content(three)
    version = republish_version(three, 1, "main.py rollback m 1")
    assert version == three / "4" == versions.find_saved_model(three)
    assert (version / "saved_model.pb").read_text() == "model 1"
    assert versions.version_digest(version) == versions.version_digest(three / "1")
    card = read_card(version)
    assert card.content["model"] == "m1"
    told = card.rollback
    assert (told.copy_of, told.replaces, told.command) == (1, 3, "main.py rollback m 1")
    assert card.damage == ()
    assert {name: data for name, data in content(three).items() if not name.startswith("4/")} == before


def test_a_rollback_is_taken_back_by_a_rollback(three):
    republish_version(three, 1, "")
    version = republish_version(three, 3, "")
    assert (version.name, (version / "saved_model.pb").read_text()) == ("5", "model 3")
    again = republish_version(three, 4, "")  # a copy of a copy
    assert (again.name, original_number(again, read_card(again))) == ("6", 1)
    prune_versions(three, 2)
    assert names(three) == ["5", "6"]
    assert (again / "saved_model.pb").read_text() == "model 1"  # though what it shares its files with is gone


def test_a_rollback_needs_no_room(three):
    """Expect shared files, so that a rollback works on a full disk; only the card is new."""
    version = republish_version(three, 1, "")
    assert (version / "variables" / "index").samefile(three / "1" / "variables" / "index")
    assert not (version / CARD).samefile(three / "1" / CARD)


def test_a_rollback_copies_where_there_are_no_links(three, monkeypatch):
    def no_links(*_):
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    version = republish_version(three, 1, "")
    assert (version / "saved_model.pb").read_text() == "model 1"
    assert not (version / "saved_model.pb").samefile(three / "1" / "saved_model.pb")


def test_a_rollback_that_fails_publishes_nothing(three, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("kcnn.serving.publishing.rollback.write_card", full)
    with pytest.raises(OSError, match="No space"):
        republish_version(three, 1, "")
    assert names(three) == ["1", "2", "3"]


def test_rollbacks_that_cannot_be(three):
    with pytest.raises(UserError, match="no version 7; there are 1, 2, 3"):
        republish_version(three, 7, "")
    with pytest.raises(UserError, match=r"3: is served already$"):
        republish_version(three, 3, "")
    republish_version(three, 1, "")
    with pytest.raises(UserError, match=r"1: is served already, as .*/4$"):
        republish_version(three, 1, "")
    assert names(three) == ["1", "2", "3", "4"]


def test_a_rollback_takes_along_the_labels_of_what_it_replaces(three):
    assign_labels(three, {"stable": 3, "canary": 2})
    republish_version(three, 1, "")
    assert current_labels(three) == {"stable": 4, "canary": 2}


def test_labelled_versions_are_kept(three):
    with_card(three, "model 4", {})
    assign_labels(three, {"stable": 1})
    assert prune_versions(three, 2) == ["2"]
    assert [path.name for path in versions.list_versions(three)] == ["1", "3", "4"]


def test_a_file_beside_the_versions_is_whole_at_any_time(three):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from kcnn.serving.publishing.labels import assign_labels\n"
        "for _ in range(200): assign_labels(Path(sys.argv[2]), {'stable': int(sys.argv[3])})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(ROOT), str(three), n]) for n in "12"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (three / "labels.json").exists():
            seen.add((three / "labels.json").read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert {json.loads(text)["stable"] for text in seen} <= {1, 2}
    assert names(three) == ["1", "2", "3", "labels.json"]


def test_the_table(three):
    assign_labels(three, {"stable": 2})
    republish_version(three, 1, "")
    assert versions_table(three)[1:] == [
        "1",
        "2           stable",
        "3",
        "4 (served)  canary  copy of 1",
    ]


def test_a_model_goes_by_its_name_or_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("saved_models/a", "a", "b"):
        Path(folder).mkdir(parents=True)
    given = ("a", "b", "c", "./a", "saved_models/a/1")
    wanted = ("saved_models/a", "b", "saved_models/c", "a", "saved_models/a/1")
    assert [versions.model_folder(model, "saved_models") for model in given] == list(map(Path, wanted))
