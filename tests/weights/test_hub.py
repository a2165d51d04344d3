"""Weights from the hub, by its own client, from a hub on localhost."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, Hub
from safetensors.numpy import load, save

import kcnn
from kcnn.errors import UserError
from kcnn.models.spec import MODELS, model_spec
from kcnn.recipes import build
from kcnn.weights import describe_weights, hub, load_weights, save_weights, stored
from kcnn.weights.hub_names import HubFile, parse_source
from kcnn.weights.timm_tags import TIMM_TAGS
from kcnn.weights.torch_names import TORCH_NAMES
from pipelines.graphs.preflight import settle_weights, weights_digest

ROOT = Path(__file__).parents[2]
README = b"---\ntags:\n- image-classification\nlicense: apache-2.0\n---\n# A model\nlicense: none\n"
LENET = "hf://user/lenet"
MOBILENET = "mobilenetv3small_0.5.timm"


@pytest.fixture(scope="module")
def server():
    server = Hub()
    yield server
    server.close()


@pytest.fixture(autouse=True, scope="module")
def client(server, tmp_path_factory):
    """Import the client under the variables of a user who has another hub and another home."""
    home = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            patch.delitem(sys.modules, name)
        for name, value in {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_TOKEN": "hf_secret"}.items():
            patch.setenv(name, value)
        for name in hub._ENVIRONMENT:
            patch.setenv(name, "")
            patch.delenv(name)
        yield home
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def lenet(server, tmp_path_factory):
    """Return a network, and the file with its weights that the repository user/lenet has."""
    model = kcnn.create_model("lenet5", 10, 32)
    path = tmp_path_factory.mktemp("lenet") / "w.safetensors"
    save_weights(model, path)
    server.repos["user/lenet"] = {"model.safetensors": path.read_bytes(), "README.md": README, "run.py": b"1 / 0"}
    return model, path.read_bytes()


@pytest.fixture(scope="module")
def mobilenet(server):
    """Return a network whose weights a repository like timm's has by timm's names, and its configuration."""
    model = kcnn.create_model(MOBILENET, 10)
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    names = TORCH_NAMES.get(model_spec(MOBILENET).family)["timm"](list(layers))
    suffixes = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    suffixes |= {"bias": "bias", "moving_variance": "running_var"}
    tensors = {}
    for name, module in names.items():
        for variable in layers[name].weights:
            depthwise = "depthwise" in type(layers[name]).__name__.lower()
            axes = {4: (2, 3, 0, 1) if depthwise else (3, 2, 0, 1), 2: (1, 0)}.get(len(variable.shape), (0,))
            tensors[f"{module}.{suffixes[variable.name]}"] = np.ascontiguousarray(variable.numpy().transpose(axes))
    pixels = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    configuration = {"architecture": "mobilenetv3_small_050", "num_classes": 10, "pretrained_cfg": pixels}
    server.repos["timm/mobilenetv3_small_050.lamb_in1k"] = {
        "model.safetensors": save(tensors),
        "config.json": json.dumps(configuration).encode(),
        "README.md": README,
    }
    return model, configuration


def assert_equal_weights(model, other):
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_file_is_fetched_once_and_then_needs_no_connection(server, lenet, client, capfd):
    model = kcnn.create_model("lenet5", 10, 32)
    report = load_weights(model, LENET)
    assert str(report).startswith(f"{LENET}: ")
    assert_equal_weights(model, lenet[0])
    whole = [request for request in server.requests if "storage" in request[1] and not request[2]]
    assert [request[:2] for request in whole] == [("GET", "/storage/user/lenet/model.safetensors")]
    assert not any(token for _, path, _, token in server.requests if path.startswith("/storage"))
    assert not any("run.py" in path for _, path, _, _ in server.requests)
    assert not any("agent" in path or "telemetry" in path for _, path, _, _ in server.requests)
    asked = len(server.requests)
    again = kcnn.create_model("lenet5", 10, 32, weights=LENET)
    load_weights(again, f"{LENET}@{COMMIT}/model.safetensors", offline=True)
    assert_equal_weights(again, lenet[0])
    assert len(server.requests) == asked
    assert list(client.glob("hub/models--user--lenet/snapshots/*/model.safetensors"))
    assert capfd.readouterr().err == ""


def test_a_card_can_say_where_they_are_from(lenet):
    load_weights(kcnn.create_model("lenet5", 10, 32), LENET)
    assert describe_weights(LENET, "lenet5") == {
        "repo": "user/lenet",
        "revision": COMMIT,
        "file": "model.safetensors",
        "sha256": hashlib.sha256(lenet[1]).hexdigest(),
        "license": "apache-2.0",
    }
    assert describe_weights("starter", "mobilenetv2") == describe_weights(None, "lenet5") == {}


@pytest.mark.slow
def test_the_card_of_a_published_model_says_where_they_are_from(server, lenet, client, tmp_path):
    """A minute: the whole job, and the same job again without a connection."""
    command = [sys.executable, ROOT / "main.py", "--model", "lenet5", "--recipe", "linear_probe", "--epochs", "1"]
    subprocess.run([*command, "--weights", LENET], cwd=tmp_path, check=True)
    card = json.loads((tmp_path / "saved_models/lenet5/1/assets.extra/card.json").read_text())
    assert card["weights"] == LENET
    assert card["weights_origin"] == describe_weights(LENET, "lenet5")
    assert card["weights_origin"]["license"] == "apache-2.0"
    asked = len(server.requests)
    done = subprocess.run(
        [*command, "--weights", LENET, "--to", "Trainer"], cwd=tmp_path, check=True, stdout=subprocess.PIPE
    )
    assert b"Trainer: unchanged" in done.stdout
    assert len(server.requests) == asked


def test_a_run_settles_them_by_their_content(server, lenet, capsys):
    server.repos["user/copy"] = {"model.safetensors": lenet[1]}
    config = build("finetune", model="lenet5", weights="hf://user/copy")
    assert settle_weights(config) == (config, "hf://user/copy")
    assert capsys.readouterr().out == "Weights: hf://user/copy\n"
    assert weights_digest("hf://user/copy", "lenet5") == hashlib.sha256(lenet[1]).hexdigest()
    assert "license" not in describe_weights("hf://user/copy", "lenet5")


@pytest.fixture(scope="module")
def other():
    """Return a network with other classes and other pixels than the one that has its weights in a repository."""
    return kcnn.create_model(MOBILENET, 3, preprocessing="tf")


def test_a_network_of_timm(mobilenet, other):
    source = "timm:mobilenetv3_small_050"
    report = load_weights(other, source)
    assert report.kept == ("head_logits",)
    for mine, theirs in zip(other.get_weights()[:-2], mobilenet[0].get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert describe_weights(source, MOBILENET)["repo"] == "timm/mobilenetv3_small_050.lamb_in1k"
    (remark,) = report.remarks
    assert remark.endswith("and mobilenetv3small_0.5.timm takes 'tf'")


def test_equal_shapes_of_another_network_are_refused(server, mobilenet):
    """Timm's tf_ networks have the same tensors, and pad otherwise."""
    files = dict(server.repos["timm/mobilenetv3_small_050.lamb_in1k"])
    files["config.json"] = json.dumps({**mobilenet[1], "architecture": "tf_mobilenetv3_small_075"}).encode()
    server.repos["user/tf"] = files
    with pytest.raises(UserError, match=r"did you mean --model mobilenetv3small_0\.75\?"):
        load_weights(mobilenet[0], "hf://user/tf")


def test_pixels_that_are_normalised_as_in_training_need_no_remark(server, mobilenet, other):
    files = dict(server.repos["timm/mobilenetv3_small_050.lamb_in1k"])
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    files["config.json"] = json.dumps({**mobilenet[1], "pretrained_cfg": half}).encode()
    server.repos["user/half"] = files
    assert load_weights(other, "hf://user/half").remarks == ()
    assert load_weights(mobilenet[0], "timm:mobilenetv3_small_050.lamb_in1k").remarks == ()


def test_a_connection_that_breaks_is_taken_up_again(server, lenet):
    chunk = 10 * 2**20  # of the client, which keeps whole ones
    tensors = {**load(lenet[1]), "head_more/kernel": np.zeros(chunk // 4, np.float32)}
    server.repos["user/broken"] = {"model.safetensors": save(tensors)}
    server.faults["user/broken"] = "drop"
    model = kcnn.create_model("lenet5", 10, 32, weights="hf://user/broken")
    assert_equal_weights(model, lenet[0])
    asked = [request[2] for request in server.requests if request[1] == "/storage/user/broken/model.safetensors"]
    assert asked[-2:] == ["", f"bytes={chunk}-"]


def test_a_damaged_byte_is_noticed_and_not_kept(server, lenet, client):
    server.repos["user/flip"] = {"model.safetensors": lenet[1]}
    server.faults["user/flip"] = "flip"
    model = kcnn.create_model("lenet5", 10, 32)
    with pytest.raises(UserError, match="damaged, by the hub's checksum"):
        load_weights(model, "hf://user/flip")
    assert_equal_weights(kcnn.create_model("lenet5", 10, 32, weights="hf://user/flip"), lenet[0])


def test_a_file_that_swells_on_the_way_is_given_up(server, lenet, client):
    server.repos["user/swell"] = {"model.safetensors": lenet[1]}
    server.faults["user/swell"] = "swell"
    with pytest.raises(UserError, match=f"more than the {len(lenet[1]):,} bytes that were announced"):
        load_weights(kcnn.create_model("lenet5", 10, 32), "hf://user/swell")
    assert not [path for path in client.rglob("*swell*/snapshots/**/*") if path.is_file()]


def test_a_file_that_is_larger_than_its_network_explains_is_not_fetched(server, lenet, monkeypatch):
    server.repos["user/large"] = {"model.safetensors": lenet[1]}
    monkeypatch.setattr(stored, "FILE_BYTES", 0)
    monkeypatch.setattr(stored, "FILE_BYTES_A_NUMBER", 3)
    with pytest.raises(UserError, match=rf"^weights 'hf://user/large': {len(lenet[1]):,} bytes; expected at most "):
        load_weights(kcnn.create_model("lenet5", 10, 32), "hf://user/large")
    assert "/storage/user/large/model.safetensors" not in server.sent


def test_only_the_header_of_what_does_not_fit_is_fetched(server, mobilenet):
    server.repos["user/wide"] = {"model.safetensors": save({"conv_stem.weight": np.zeros((512, 1024), np.float32)})}
    with pytest.raises(UserError, match=f"^weights 'hf://user/wide' do not fit {MOBILENET}: missing: bn1"):
        load_weights(mobilenet[0], "hf://user/wide")
    assert server.sent["/storage/user/wide/model.safetensors"] == 100_001  # what the client asks for


def test_a_cached_file_for_another_network_is_named_as_it_was_given(mobilenet):
    load_weights(mobilenet[0], "hf://timm/mobilenetv3_small_050.lamb_in1k")
    with pytest.raises(UserError, match=r"^weights 'hf://timm/mobilenetv3_small_050.lamb_in1k' do not fit lenet5: "):
        load_weights(kcnn.create_model("lenet5", 10, 32), "hf://timm/mobilenetv3_small_050.lamb_in1k")


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        (None, "hf://user/none", r"http://127\S+ has no repository user/none, or it is private"),
        ({"pytorch_model.bin": b"x"}, "hf://user/pickle", r"no model\.safetensors; other files than \.safetensors are"),
        ({"a/x.safetensors": b"x"}, "hf://user/named", r"no model\.safetensors; expected hf://user/named/a/x.safe"),
        ({"model.safetensors": b"x" * 99}, "hf://user/garbage", r"user/garbage/model\.safetensors is no safetensors"),
        ({"model.safetensors": b"x"}, "hf://user/short", r"user/short/model\.safetensors is no safetensors"),
        ({"model.safetensors": b""}, "hf://user/rev@v2", r"user/rev has no revision 'v2'"),
        (None, "hf://user/a--b", r"user/a--b can be no repository's name$"),
        (500, "hf://user/down", r"cannot be fetched from http://127\S+: Server error '500"),
        ({"model.safetensors": b"gated"}, "hf://user/gated", r"user/gated is gated: accept its terms on http://127"),
    ],
)
def test_what_cannot_be_had_is_one_line(server, files, source, message):
    repo = source.removeprefix("hf://").partition("@")[0]
    if files is not None:
        server.repos[repo] = files
    if repo == "user/gated":
        server.gated.add(repo)
    model = kcnn.create_model("lenet5", 10, 32)
    before = model.get_weights()
    with pytest.raises(UserError, match=message) as error:
        load_weights(model, source)
    assert str(error.value).startswith(f"weights {source!r}: ")
    assert "\n" not in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_header_may_hold_anything(server):
    odd = [3, {"dtype": "F32", "shape": [-1, 2**62], "data_offsets": [0, 4]}, {"shape": []}, [], None]
    for index, tensor in enumerate(odd):
        header = json.dumps({"conv1.weight": tensor}).encode()
        server.repos[f"user/odd{index}"] = {"model.safetensors": len(header).to_bytes(8, "little") + header}
        with pytest.raises(UserError, match=rf"^weights 'hf://user/odd{index}': .*(cannot be|no safetensors).*$"):
            load_weights(kcnn.create_model("lenet5", 10, 32), f"hf://user/odd{index}")


def test_a_hub_that_hangs_costs_seconds(server, monkeypatch):
    server.repos["user/hangs"] = 20.0
    monkeypatch.setattr(hub, "_PATIENCE", 0.5)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"hf://user/hangs': cannot be fetched from \S+: .+$"):
        load_weights(kcnn.create_model("lenet5", 10, 32), "hf://user/hangs")
    assert time.monotonic() - begun < 3


def test_offline_is_one_line(server, mobilenet):
    asked = len(server.requests)
    with pytest.raises(
        UserError, match=r"^weights 'timm:\S+': timm/mobilenetv3_small_050\.a is not in \S+hub, and off"
    ):
        load_weights(mobilenet[0], "timm:mobilenetv3_small_050.a", offline=True)
    assert len(server.requests) == asked


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^weights 'hf://user/lenet': .* pip install 'kcnn\[hub\]'$"):
        load_weights(kcnn.create_model("lenet5", 10, 32), LENET)


@pytest.mark.parametrize(
    ("source", "model", "meant"),
    [
        ("timm:resnet50.a1_in1k", "resnet50.torch", HubFile("", "timm/resnet50.a1_in1k")),
        ("timm:resnet50.new_in1k", "resnet50.torch", HubFile("", "timm/resnet50.new_in1k")),
        ("timm:resnet50", "resnet50.torch", HubFile("", "timm/resnet50.a1_in1k")),
        ("torchvision:resnet50", "resnet50.torch", HubFile("", "timm/resnet50.tv_in1k")),
        ("torchvision:resnet50.IMAGENET1K_V2", "resnet50.torch", HubFile("", "timm/resnet50.tv2_in1k")),
        ("hf://a/b@v1/sub/c.safetensors", "lenet5", HubFile("", "a/b", "v1", "sub/c.safetensors")),
        ("hf://a/b@refs/pr/3", "lenet5", HubFile("", "a/b", "refs/pr/3")),
        (
            "timm:resnet50.a1_in1k",
            "resnet50",
            r"another network than resnet50: did you mean --model resnet50\.torch\?$",
        ),
        ("torchvision:resnet50", "resnet50", r"did you mean --model resnet50\.torch\?$"),
        ("timm:resnet5", "resnet18", r"resnet18 is timm's resnet18$"),
        ("timm:resnet5O", "lenet5", r"did you mean 'resnet50'"),
        ("timm:legacy_senet154", "senet154", r"timm has no weights of legacy_senet154 on the hub; expected a file$"),
        ("torchvision:mobilenet_v2", "mobilenetv2.torch", r"the hub has no copy of torchvision's; nor does timm"),
        (
            "torchvision:efficientnet_b0",
            "efficientnetb0.torch",
            r"no copy of torchvision's; timm has timm:efficientnet_b0",
        ),
        ("torchvision:resnet50.V2", "resnet50.torch", "choose from IMAGENET1K_V1, IMAGENET1K_V2$"),
        (
            "torchvision:resnet18.IMAGENET1K_V2",
            "resnet18",
            r"the hub has no copy of torchvision's; timm has timm:resnet18",
        ),
        ("hf://bert", "lenet5", r"expected hf://OWNER/NAME"),
        ("hf://a/b/model.bin", "lenet5", r"expected hf://OWNER/NAME"),
        ("hf://a/b/../c.safetensors", "lenet5", r"expected hf://OWNER/NAME"),
    ],
)
def test_what_a_source_means(source, model, meant):
    if isinstance(meant, str):
        with pytest.raises(UserError, match=f"^weights {source!r}: .*{meant}"):
            parse_source(source, model_spec(model))
    else:
        found = parse_source(source, model_spec(model))
        assert (found.source, found.repo, found.revision, found.file) == (
            source,
            meant.repo,
            meant.revision,
            meant.file,
        )


def test_copies_of_torchvisions_weights_are_of_networks_that_timm_has_by_the_same_name():
    copies = {name for name, tags in TIMM_TAGS.items() if {"tv_in1k", "tv2_in1k"} & set(tags.split())}
    for spec in map(MODELS.get, MODELS):
        if (name := spec.torch.get("torchvision")) in copies:
            assert spec.torch["timm"] == name
