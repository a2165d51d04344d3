"""The mean of files of weights, by the command."""

import numpy as np
import pytest

import kcnn
from kcnn.weights import save_weights
from pipelines import command_line


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Write three files of one small network's weights; return their values."""
    monkeypatch.chdir(tmp_path)
    model, values = kcnn.create_model("lenet5", 3, 32), []
    for index, name in enumerate("abc"):
        rng = np.random.default_rng(index)
        values.append([rng.normal(size=variable.shape).astype(np.float32) for variable in model.weights])
        model.set_weights(values[-1])
        save_weights(model, f"{name}.safetensors")
    return values


def run(*arguments):
    return command_line.run(["main.py", "average", *arguments])


def test_the_mean_loads_into_the_network(saved):
    assert run("--to", "mean.safetensors", "a.safetensors", "b.safetensors", "c.safetensors") == 0
    model = kcnn.create_model("lenet5", 3, 32, weights="mean.safetensors")
    for found, expected in zip(model.get_weights(), zip(*saved, strict=True), strict=True):
        np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-6)


def test_mistakes_are_one_line_and_write_nothing(saved, tmp_path, capsys):
    save_weights(kcnn.create_model("lenet5", 4, 32), "other.safetensors")
    save_weights(kcnn.create_model("lenet5", 3, 32, activation="relu"), "relu.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for arguments, message in (
        (("--to", "m.safetensors", "a.safetensors"), "expected two files or more"),
        (("a.safetensors", "b.safetensors"), "--to None: expected a file to write"),
        (("--to", "m.h5", "a.safetensors", "b.safetensors"), "--to m.h5: expected"),
        (("--to", "c.safetensors", "a.safetensors", "b.safetensors"), "expected a new file; it exists"),
        (("--to", "no/m.safetensors", "a.safetensors", "b.safetensors"), "a folder that exists"),
        (("--to", "m.safetensors", "a.safetensors", "d.safetensors"), "d.safetensors: expected"),
        (("--to", "m.safetensors", "a.safetensors", "other.safetensors"), "other.safetensors: weights for another"),
        (("--to", "m.safetensors", "a.safetensors", "relu.safetensors"), "relu.safetensors: weights for another"),
        (("--to", "m.safetensors", "a.safetensors", "text.safetensors"), "cannot be averaged"),
    ):
        assert run(*arguments) == 2
        printed = capsys.readouterr().err.strip()
        assert message in printed
        assert "\n" not in printed
        assert not list(tmp_path.glob("m.*"))
