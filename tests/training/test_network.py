"""The networks of a run: their precision, their outputs, and that the global dtype policy stays what it is."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.evaluation.embeddings import compute_embeddings
from kcnn.models.taps import penultimate
from kcnn.recipes import build
from kcnn.training.network import build_network, inference_network
from kcnn.weights import save_weights


def policies(model):
    return {layer.dtype_policy.name for layer in model.layers if layer.weights}


def test_the_policy_is_the_networks_and_not_the_programs():
    config = build("scratch", model="lenet5", dtype="mixed_bfloat16")
    network = build_network(config, 3, 32)
    assert "mixed_bfloat16" in policies(network)
    assert network.outputs[0].dtype == "float32"
    assert policies(build_network(config, 3, (32, 32), "float32")) == {"float32"}
    with pytest.raises(UserError):
        build_network(config, 0, 32)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("program", ["float32", "mixed_bfloat16"])
def test_a_trained_network_answers_in_float32_whatever_it_was_trained_in(tmp_path, program):
    config = build("scratch", model="lenet5", dtype="mixed_bfloat16")
    path = tmp_path / "w.safetensors"
    save_weights(build_network(config, 3, 32), path)
    keras.config.set_dtype_policy(program)
    try:
        network = inference_network(config, 3, 32, path)
        assert keras.config.dtype_policy().name == program
    finally:
        keras.config.set_dtype_policy("float32")
    assert policies(network) == {"float32"}
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    expected = inference_network(build("scratch", model="lenet5"), 3, 32, path)(images)
    np.testing.assert_array_equal(network(images), expected)


def test_auxiliary_classifiers_are_trained_and_do_not_answer(tmp_path):
    config = build("scratch", model="googlenet", design={"aux_heads": True})
    whole = build_network(config, 3, 64)
    assert len(whole.outputs) == 3
    path = tmp_path / "w.safetensors"
    save_weights(whole, path)
    network = inference_network(config, 3, 64, path)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(network(images), whole(images)[0], rtol=1e-5, atol=1e-6)
    features = penultimate(network)(images)
    np.testing.assert_allclose(network.get_layer("head_logits")(features), network(images), rtol=1e-4, atol=1e-4)
    embeddings = compute_embeddings(whole, {}, 0, Preprocessing((64, 64)), tmp_path / "features.npy")
    with pytest.raises(ValueError, match="3 outputs"), embeddings:
        pass


def test_one_place_sets_the_global_policy():
    sources = Path(__file__).parents[2].glob("kcnn/**/*.py")
    found = [path.name for path in sources if "set_dtype_policy" in path.read_text(encoding="utf-8")]
    assert found == ["keras_settings.py"]
