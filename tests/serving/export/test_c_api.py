"""The export in a C program: TensorFlow's C API, no Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf
from requests_and_answers import ask
from tensorflow.core.protobuf import saved_model_pb2


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    home, path = Path(tf.sysconfig.get_lib()), tmp_path_factory.mktemp("c") / "classify"
    libraries = [home / "libtensorflow_cc.so.2", home / "libtensorflow_framework.so.2"]
    if not all(library.is_file() for library in libraries):
        pytest.skip("this TensorFlow comes without its libraries")
    source = Path(__file__).with_name("classify.c")
    command = [compiler, "-Wall", "-Werror", f"-I{tf.sysconfig.get_include()}", str(source), "-o", str(path)]
    subprocess.run([*command, *map(str, libraries), f"-Wl,-rpath,{home}"], check=True)
    return path


@pytest.mark.slow
def test_a_c_program_classifies_a_file(program, export_dir, pictures, tmp_path):
    saved = saved_model_pb2.SavedModel.FromString((export_dir / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    (source,) = signature.inputs.values()
    places = [signature.outputs[name].name for name in ("status", "top_classes", "top_probabilities")]
    (node,) = {place.partition(":")[0] for place in places}
    arguments = [source.name.partition(":")[0], node, *(place.partition(":")[2] for place in places)]

    def classify(content):
        (tmp_path / "file").write_bytes(content)
        command = [str(program), str(export_dir), *arguments, str(tmp_path / "file")]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        return subprocess.run(command, capture_output=True, check=False, text=True, env=environment)

    answered = classify(pictures[0])
    assert answered.returncode == 0, answered.stderr
    expected = ask(export_dir, pictures[:1])
    lines = [line.split(" ", 1) for line in answered.stdout.splitlines()]
    assert [name for _, name in lines] == [name.decode() for name in expected["top_classes"][0]]
    assert [float(p) for p, _ in lines] == pytest.approx(expected["top_probabilities"][0].tolist(), abs=2e-6)
    refused = classify(b"no image")
    assert (refused.returncode, refused.stdout) == (1, "not a JPEG, PNG, GIF, BMP or WebP image\n")
