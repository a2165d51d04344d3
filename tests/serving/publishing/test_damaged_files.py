"""Damaged small files of published versions: what is sound is used, what is not is told in a line."""

import json
import os
import re
import shutil

import pytest

from kcnn.serving.publishing import versions
from kcnn.serving.publishing.bundle import write_bundle
from kcnn.serving.publishing.card import CARD, read_card, write_card
from kcnn.serving.publishing.labels import assign_labels, assigned_labels, current_labels
from kcnn.serving.publishing.pruning import prune_versions
from kcnn.serving.publishing.rollback import republish_version
from pipelines.command_line import run

# What lies in the place of a small file: bytes, or what makes it.
DAMAGE = {
    "syntax": b"{",
    "list": b"[]",
    "bytes": bytes(range(256)),
    "UTF-16": "{}".encode("utf-16"),
    "deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep within Python's bound": b'{"a":' * 400 + b"1" + b"}" * 400,
    "values": b"[" + b"[]," * 2_000_000 + b"1]",
    "size": lambda path: (path.touch(), os.truncate(path, 10**10)),
    "pipe": os.mkfifo,
    "folder": lambda path: (path.mkdir(), (path / "file").touch()),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "device": lambda path: path.symlink_to("/dev/zero"),
}
# Hostile values of an entry, as JSON.
VALUES = [
    "null",
    "true",
    "-1",
    "1.5",
    "1e999",
    "NaN",
    "9223372036854775808",
    "9" * 5000,
    '"1\\u0000"',
    '"\\ud800"',
    '"\\u001b[31m"',
    "[]",
    "[3]",
    "{}",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a model with versions 1 and 2, and 3, a copy of 1; "stable" stands on 2."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "saved_models" / "m"

    def write(staged):
        staged.mkdir()
        (staged / "saved_model.pb").write_text(staged.parent.name)
        write_card(staged, {"model": "m", "publication": "p", "notes": ["n"]})

    versions.publish_version(folder, write)
    versions.publish_version(folder, write)
    republish_version(folder, 1, "main.py rollback m 1")
    assign_labels(folder, {"stable": 2})
    write_bundle(folder)
    return folder


def damage(path, how):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    how(path) if callable(how) else path.write_bytes(how)


def call(capsys, *arguments):
    """Run a command line, which must succeed; returns what it printed, and the warnings."""
    assert run(["main.py", *arguments]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert all(line.startswith(("Warning: ", "Note: ")) and line.isprintable() for line in lines)
    return printed.out, lines


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_card_stops_no_emergency_command(folder, capsys, how):
    damage(folder / "3" / CARD, DAMAGE[how])
    out, told = call(capsys, "label", "m")
    assert "3 (served)  canary  copy of 1" in out  # by the file that it shares
    assert len(told) == 1
    assert "3/assets.extra/card.json: " in told[0]
    assert "3 (served)  stable, canary" in call(capsys, "label", "m", "stable=3")[0]
    call(capsys, "rollback", "m", "2")
    call(capsys, "rollback", "m", "3")  # of which the card is damaged
    assert read_card(folder / "5").content["rollback"]["copy_of"] == 1
    assert read_card(folder / "5").damage == ()
    assert versions.version_digest(folder / "5") == versions.version_digest(folder / "1")


@pytest.mark.parametrize("how", ["a file in its place", "a pipe in its place", "nothing", "a link to nothing"])
def test_a_version_without_its_folder_of_extras_can_be_served_again(folder, capsys, how):
    shutil.rmtree(folder / "1" / "assets.extra")
    ways = {
        "a file in its place": b"x",
        "a pipe in its place": os.mkfifo,
        "a link to nothing": DAMAGE["link to nothing"],
    }
    if how in ways:
        damage(folder / "1" / "assets.extra", ways[how])
    call(capsys, "rollback", "m", "2")
    call(capsys, "rollback", "m", "1")
    assert read_card(folder / "5").rollback.copy_of == 1


def test_pipes_and_links_in_a_version_stop_no_rollback(folder, capsys):
    os.mkfifo(folder / "2" / "pipe")
    (folder / "2" / "nothing").symlink_to("nowhere")
    (folder / "2" / "itself").symlink_to(".")
    call(capsys, "rollback", "m", "2")
    assert (folder / "4" / "itself").is_symlink()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("entry", ["rollback", "publication", "notes", "copy_of", "replaces", "created", "command"])
def test_a_hostile_entry_is_left_out_and_told(folder, capsys, entry, value):
    card = json.loads((folder / "3" / CARD).read_text())
    (card if entry in card else card["rollback"])[entry] = "HERE"
    (folder / "3" / CARD).write_text(json.dumps(card).replace('"HERE"', value))
    out, told = call(capsys, "label", "m")
    assert "copy of 1" in out
    sound = (entry in ("publication", "created", "command") and value[0] == '"') or (entry, value) == ("notes", "[]")
    assert len(told) == (0 if sound else 1)
    assert all(re.search(rf"card\.json: damaged: (rollback\.)?{entry}: expected ", line) for line in told)
    assert read_card(folder / "3").content["model"] == "m"
    call(capsys, "rollback", "m", "2")
    call(capsys, "rollback", "m", "3")
    assert read_card(folder / "5").damage == ()


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_labels_stand_where_models_config_has_them(folder, capsys, how):
    damage(folder / "labels.json", DAMAGE[how])
    out, told = call(capsys, "label", "m")
    assert "2           stable" in out
    assert "labels.json: " in told[0]
    assert "stable stands where models.config has it" in told[1]
    call(capsys, "rollback", "m", "2")
    assert current_labels(folder) == {"stable": 2, "canary": 4}  # canary went along, from 3
    assert not assigned_labels(folder).damage
    assert os.path.lexists(folder / "labels.json.damaged")  # nothing is lost


@pytest.mark.parametrize("how", DAMAGE)
def test_labels_of_which_nothing_is_known_stand_nowhere(folder, capsys, how):
    for name in ("labels.json", "models.config"):
        damage(folder / name, DAMAGE[how])
    assert current_labels(folder) == {}
    with pytest.raises(versions.UserError, match="no version is removed"):
        prune_versions(folder, 2)
    call(capsys, "rollback", "m", "2")
    call(capsys, "label", "m", "stable=1")
    assert current_labels(folder)["stable"] == 1
    assert "version_labels" in (folder / "models.config").read_text()


@pytest.mark.parametrize("value", [*VALUES, '"../2"', '"\u0662"'])
def test_a_hostile_label_is_told_and_the_other_stands(folder, capsys, value):
    (folder / "models.config").unlink()
    (folder / "labels.json").write_text(f'{{"stable": {value}, "canary": "1"}}')
    out, told = call(capsys, "label", "m")
    assert "1           canary" in out
    assert "stable" not in out
    assert len(told) == 2 or "labels.json: damaged" in told[0]


def test_many_labels_that_nobody_put_cost_little(folder, capsys):
    entries = ", ".join(f'"{number}": {number if number % 2 else "null"}' for number in range(100_000))
    (folder / "labels.json").write_text(f'{{"stable": 2, {entries}}}')
    out, told = call(capsys, "label", "m")
    assert "2           stable" in out
    assert len(told) == 4


def test_a_served_version_that_cannot_be_read_is_rolled_back(folder, capsys, monkeypatch):
    digest = versions.version_digest

    def unreadable(version):
        if version.name == "3":
            raise PermissionError(13, "Permission denied", str(version))
        return digest(version)

    monkeypatch.setattr("kcnn.serving.publishing.rollback.version_digest", unreadable)
    assert "4 (served)" in call(capsys, "rollback", "m", "2")[0]


@pytest.mark.parametrize("number", ["9" * 5000, "\u0663", "-1", "9223372036854775808", "1\n"])
def test_numbers_that_no_version_has(folder, capsys, number):
    for arguments in (["rollback", "m", number], ["label", "m", f"stable={number}"]):
        assert run(["main.py", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert len(line) < 400
