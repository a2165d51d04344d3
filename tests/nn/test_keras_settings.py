"""What others set in Keras for a whole process changes no network here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kcnn
from kcnn.nn.keras_settings import needed_settings

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "image_data_format": "channels_first",
    "floatx": "float16",
    "epsilon": 1e-2,
    "max_epochs": 1,
    "max_steps_per_epoch": 2,
}
CALLERS = ["ahead of the network", "behind the network"]


def current_settings():
    return {name: getattr(keras.config, name)() for name in SETTINGS}


@pytest.fixture
def set_by_others():
    """Return a function that sets all settings as another program might; they are the usual ones again in the end."""
    before, policy = current_settings(), keras.config.dtype_policy()

    def change():
        for name, value in SETTINGS.items():
            getattr(keras.config, f"set_{name}")(value)
        keras.config.set_dtype_policy(SETTINGS["floatx"])

    yield change
    for name, value in before.items():
        getattr(keras.config, f"set_{name}")(value)
    keras.config.set_dtype_policy(policy)


def build():
    """Return a network whose layers follow Keras' settings where nothing else is given."""
    model = kcnn.create_model("mobilenetv2_0.35", 3, 64, weights="starter")
    for weights in model.get_layer("head_logits").weights:
        weights.assign(np.random.default_rng(0).normal(size=weights.shape))
    return model


@pytest.mark.parametrize("when", CALLERS)
def test_a_network_is_the_same_whatever_others_set(when, set_by_others):
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    usual = build()
    expected = usual(images).numpy()
    if when == CALLERS[0]:
        set_by_others()
    model = build()
    set_by_others()
    assert model.get_config() == usual.get_config()
    assert model(images).numpy().tolist() == expected.tolist()
    assert {weights.dtype for weights in model.weights} == {"float32"}
    assert kcnn.macs(model, 96) == 10657968
    assert current_settings() == SETTINGS
    assert keras.config.dtype_policy().name == "float16"


def test_an_export_is_the_same_whatever_others_set(set_by_others, tmp_path):
    model = build()
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    usual = kcnn.export_classifier(model, tmp_path / "usual", ["a", "b", "c"])
    set_by_others()
    made = kcnn.export_classifier(model, tmp_path / "made", ["a", "b", "c"])
    assert made == usual
    answers = [kcnn.load_classifier(tmp_path / name).predict(image) for name in ("usual", "made")]
    assert answers[0] == answers[1]


def test_a_policy_that_was_chosen_stays(set_by_others):
    set_by_others()
    keras.config.set_dtype_policy("mixed_bfloat16")
    with needed_settings():
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert keras.config.floatx() == "float32"
        keras.config.set_dtype_policy("float32")
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def in_a_process(code, tmp_path, settings, **environment):
    """Return what a process prints whose Keras finds these settings in its file."""
    (tmp_path / "keras.json").write_text(settings)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "KERAS_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_program_overrides_the_file_and_the_environment(tmp_path):
    code = (
        "from pipelines.commands.shared.tensorflow import load_tensorflow; load_tensorflow()\n"
        "import json, keras, os\n"
        f"found = {{name: getattr(keras.config, name)() for name in {list(SETTINGS)}}}\n"
        "print(json.dumps([found, keras.config.dtype_policy().name, keras.backend.backend()]))\n"
        "print('TF_ONEDNN_ASSUME_FROZEN_WEIGHTS' in os.environ)"
    )
    done = in_a_process(
        code,
        tmp_path,
        json.dumps({**SETTINGS, "backend": "torch", "nnx_enabled": True}),
        KERAS_BACKEND="jax",
        KERAS_MAX_EPOCHS="many",
        KERAS_MAX_STEPS_PER_EPOCH="1",
        TF_ONEDNN_ASSUME_FROZEN_WEIGHTS="1",
        TF_USE_LEGACY_KERAS="1",
    )
    found, frozen = done.stdout.splitlines()
    needed = [None if name.startswith("max") else value for name, value in SETTINGS.items()]
    needed = dict(zip(SETTINGS, ["channels_last", "float32", 1e-7, *needed[3:]], strict=True))
    assert json.loads(found) == [needed, "float32", "tensorflow"]
    assert frozen == "False"
    assert done.stderr.splitlines() == [
        "KERAS_MAX_EPOCHS of the environment is ignored: it ends trainings early",
        "KERAS_MAX_STEPS_PER_EPOCH of the environment is ignored: it ends epochs early",
        "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS of the environment is ignored: "
        "it computes with weights from before they were trained",
    ]


@pytest.mark.parametrize("settings", ["[]", '{"epsilon": 1}'])
def test_a_file_that_keras_cannot_read_is_one_line(settings, tmp_path):
    code = "import sys\nfrom pipelines.command_line import run\nsys.exit(run(['main.py', 'models']))"
    done = in_a_process(code, tmp_path, settings)
    assert done.returncode == 2
    assert done.stderr.startswith(f"main.py: error: {tmp_path}/keras.json: Keras cannot read these settings: ")
    assert done.stderr.count("\n") == 1


def test_the_library_runs_on_tensorflow_or_says_so(tmp_path):
    code = "import kcnn, keras; print(kcnn.model_spec('lenet5').name, keras.backend.backend())"
    done = in_a_process(code, tmp_path, '{"backend": "torch"}', KERAS_BACKEND="jax")
    assert done.stdout == "lenet5 tensorflow\n", done.stderr
    stand_in = (
        "import sys, types\n"
        "backend = types.SimpleNamespace(backend=lambda: 'jax')\n"
        "sys.modules['keras'] = types.SimpleNamespace(backend=backend)\n"
    )
    done = in_a_process(stand_in + "import kcnn", tmp_path, "{}")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: kcnn needs Keras on TensorFlow, and it runs on jax: import kcnn first"
    )
