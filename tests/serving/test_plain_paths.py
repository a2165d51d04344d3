r"""Versions in folders whose names TensorFlow takes for patterns: [, ], \ and all others are loaded as elsewhere."""

import shutil
import tempfile

import numpy as np
import pytest
from tiny_classifier import LABELS, SPEC, picture

from kcnn.data import examples
from kcnn.data.examples import Example
from kcnn.errors import UserError
from kcnn.evaluation.evaluate import evaluate_export
from kcnn.plain_paths import is_pattern, plain_path
from kcnn.serving.export.classifier import export_classifier
from kcnn.serving.prediction.classifier import load_classifier
from kcnn.serving.server.runtime import RUNTIMES
from kcnn.serving.validation.saved_model import validate_export

NAMES = [
    "a\\b [2024]",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("photos [2024]", "a\\b", "a*?[!b]{c}")),
]


@pytest.fixture(params=NAMES)
def version(request, export_dir, tmp_path, monkeypatch):
    """Return an export in a folder of such a name, in a working directory of such a name."""
    monkeypatch.chdir(shutil.copytree(export_dir, tmp_path / request.param / "1").parent)
    return tmp_path / request.param / "1"


def test_every_reader_loads_it(version, export_dir, pictures, tmp_path):
    expected = load_classifier(export_dir).predict(pictures, top=7)
    assert load_classifier(version.parent).predict(pictures, top=7) == expected
    assert load_classifier(".").predict(pictures, top=7) == expected
    loaded = RUNTIMES["tensorflow"](version)
    served = loaded.run("serving_default", {"image_bytes": np.array(pictures[:2], object)})
    assert served["top_classes"][:, 0].tolist() == [row.classes[0].encode() for row in expected[:2]]
    loaded.close()


@pytest.mark.slow
def test_it_is_evaluated_and_validated_there(version, export_dir, pictures, tmp_path):
    expected = load_classifier(export_dir).predict(pictures, top=7)
    shard = version.parent / "[shards]" / "data.gz"
    shard.parent.mkdir()
    records = [
        Example(file, f"{place}.jpg", place, LABELS[place], "JPEG", 40, 60, str(place))
        for place, file in enumerate(pictures)
    ]
    examples.write_shard(shard, records, tmp_path)
    evaluation = evaluate_export(version, [str(shard)])
    best = [LABELS[place] for place in evaluation.probabilities.argmax(axis=1)]
    assert best == [row.classes[0] for row in expected]
    _, checks = validate_export(version, pictures, evaluation.probabilities, LABELS)
    asked = [check for check in checks if check.name == "loads" or check.name.startswith("answers")]
    assert len(asked) > 1
    assert [check.said for check in asked if not check.passed] == []


def test_formats_are_written_there(model, tmp_path):
    folder = tmp_path / "photos [2024]" / "1"
    export_classifier(model, folder, LABELS, SPEC, formats=["tflite-dynamic"])
    assert (folder / "assets.extra/tflite-dynamic/model.tflite").stat().st_size > 1000
    assert load_classifier(folder).predict(picture("JPEG", (60, 40), 1))[0].error is None


def test_where_no_link_can_be_made_it_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "[x]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[x]"))
    with pytest.raises(UserError, match=r"TMPDIR .*\[x\]: expected a folder without \[ and \\ in its path"):
        plain_path(tmp_path / "[x]").__enter__()
    with plain_path(tmp_path) as path:
        assert path == str(tmp_path)
    assert not is_pattern("a*?]{}b")
