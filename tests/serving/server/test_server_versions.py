"""The versions that are loaded and the labels that stand on them, look by look, whatever is wrong with the folder."""

import asyncio
import shutil

import pytest
import tensorflow as tf

from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.models import Models
from kcnn.serving.server.settings import ServedModel, Settings
from kcnn.serving.server.status import StatusError


class Counter(tf.Module):
    """A model with a variable, so that a copy of its SavedModel can lack one."""

    def __init__(self):
        self.count = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def add(self, x):
        return {"y": x + self.count}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "1"
    module = Counter()
    tf.saved_model.save(module, str(folder), {"serving_default": module.add})
    return folder


@pytest.fixture
def folder(source, tmp_path):
    """Make the folder of a model with version 1."""
    shutil.copytree(source, tmp_path / "m" / "1")
    return tmp_path / "m"


def polled(folder, *changes):
    """Poll after each change; return the states by version, and the version that each label and no label gets."""
    found = []

    async def poll():
        models = Models(Settings((ServedModel("m", folder),)), Metrics())

        def answering(label=None):
            try:
                return models.find("m", label=label).version
            except StatusError as error:
                return error.code.name

        for change in changes:
            change()
            await models.poll()
            await asyncio.gather(*models._unloading)
            states = {one.version: one.state.name for one in models.status("m")}
            found.append((states, {label: answering(label) for label in ("stable", "canary", None)}))

    asyncio.run(poll())
    return found


def nothing():
    pass


def test_where_a_new_version_fails_the_old_ones_go_on_under_their_labels(folder, source):
    def second():
        shutil.copytree(source, folder / "2")
        (folder / "labels.json").write_text('{"stable": 1}')

    def empty():
        (folder / "3").mkdir()

    def broken():
        (folder / "3" / "saved_model.pb").write_bytes(b"broken")

    def mended():
        shutil.copytree(source, folder / "3", dirs_exist_ok=True)

    up = "AVAILABLE"
    assert polled(folder, nothing, second, empty, broken, mended) == [
        ({1: up}, {"stable": 1, "canary": 1, None: 1}),
        ({1: up, 2: up}, {"stable": 1, "canary": 2, None: 2}),
        ({1: up, 2: up}, {"stable": 1, "canary": 2, None: 2}),
        ({1: up, 2: up, 3: "END"}, {"stable": 1, "canary": 2, None: 2}),
        ({1: up, 2: "END", 3: up}, {"stable": 1, "canary": 3, None: 3}),
    ]


def test_a_folder_that_is_away_for_a_moment_changes_nothing(folder, capfd):
    def away():
        folder.rename(folder.with_name("away"))

    def back():
        folder.with_name("away").rename(folder)

    there = ({1: "AVAILABLE"}, {"stable": 1, "canary": 1, None: 1})
    assert polled(folder, nothing, away, nothing, back) == [there] * 4
    said = capfd.readouterr()
    assert said.out.count("Loaded") == 1
    assert said.err.count("No such file or directory") == 1  # and not at every look


def test_a_version_that_is_copied_in_place_is_loaded_once_it_is_whole(folder, source):
    def half():
        shutil.copytree(source, folder / "2", ignore=shutil.ignore_patterns("variables"))

    def whole():
        shutil.copytree(source / "variables", folder / "2" / "variables")

    found = polled(folder, nothing, half, nothing, whole)
    assert [states for states, _ in found] == [
        {1: "AVAILABLE"},
        {1: "AVAILABLE", 2: "END"},
        {1: "AVAILABLE", 2: "END"},
        {1: "END", 2: "AVAILABLE"},
    ]
    assert [answering["stable"] for _, answering in found] == [1, 1, 1, 2]


def test_what_is_not_there_any_more_is_unloaded(folder):
    def gone():
        shutil.rmtree(folder / "1")

    states, answering = polled(folder, nothing, gone)[-1]
    assert states == {1: "END"}
    assert answering == {"stable": "INVALID_ARGUMENT", "canary": "INVALID_ARGUMENT", None: "NOT_FOUND"}


def test_labels_that_nobody_can_read_change_nothing(folder, capfd):
    def damaged():
        (folder / "labels.json").write_text('{"stable": 1e999}')

    there = ({1: "AVAILABLE"}, {"stable": 1, "canary": 1, None: 1})
    assert polled(folder, nothing, damaged) == [there] * 2
    assert "labels.json: damaged: stable: expected the number of a version" in capfd.readouterr().err
