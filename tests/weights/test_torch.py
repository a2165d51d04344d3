"""State dicts of torchvision, timm and others: the same pixels, the same logits."""

import pickle
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_files import read_tensors

import kcnn
from kcnn.errors import UserError
from kcnn.models.spec import MODELS
from kcnn.weights.torch_names import TORCH_NAMES

SPECS = [MODELS.get(name) for name in MODELS if MODELS.get(name).torch]
SMALLEST = {spec.family: spec for spec in sorted(SPECS, key=lambda spec: -spec.params)}.values()
TWINS = [
    pytest.param(spec, project, id=f"{spec.name}-{project}", marks=[] if spec in SMALLEST else [pytest.mark.slow])
    for spec in SPECS
    for project in spec.torch
]


@pytest.fixture(autouse=True)
def clean():
    yield
    keras.backend.clear_session(free_memory=True)


def some_size(spec):
    """Return sizes, even and odd, where paddings differ; torch pools to a fixed size before what is flattened here."""
    flattens = any(isinstance(layer, keras.layers.Flatten) for layer in kcnn.create_model(spec.name).layers)
    return (spec.input_size,) * 2 if flattens else (2 * max(32, -(-spec.min_size // 2)), max(71, spec.min_size | 1))


@pytest.mark.parametrize(("spec", "project"), TWINS)
def test_logits_equal(spec, project, tmp_path):
    if not all(find_spec(name) for name in ("torch", "torchvision", "timm", project)):
        pytest.skip(f"needs torch, torchvision, timm and {project}: tests/peers/run torch")
    from torch_networks import build, logits

    size = some_size(spec)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *size, 3)).astype(np.float32)
    network, mean, deviation = build(project, spec.torch[project], 7, pixels)
    save_file({key: value.numpy() for key, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    model = kcnn.create_model(spec.name, 7, size, weights=tmp_path / "w.safetensors")
    theirs, found = logits(network, pixels, mean, deviation), model(pixels).numpy()
    exact = logits(network.double(), pixels, mean, deviation)
    assert np.ptp(exact, axis=0).max() > 1e-2 * np.abs(exact).max()  # it depends on the image
    # In the deepest networks rounding alone is more than 1e-4, in torch too.
    tolerance = max(1e-4 * np.abs(exact).max(), 3 * np.abs(theirs - exact).max())
    assert np.abs(exact - found).max() <= tolerance <= 1e-2 * np.abs(exact).max()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_project_has_names(spec):
    assert set(spec.torch) <= set(TORCH_NAMES.get(spec.family))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if "torchvision" in spec.torch], ids=lambda spec: spec.name)
def test_figures_are_torchvisions(spec):
    """Parameters, multiply-adds and accuracy, as its weights carry them."""
    if not all(find_spec(name) for name in ("torch", "torchvision", "timm")):
        pytest.skip("needs torch, torchvision and timm: tests/peers/run torch")
    from torch_networks import torchvision

    enum = torchvision.models.get_model_weights(spec.torch["torchvision"])
    metas = [weights.meta for weights in enum]
    with_aux = spec.name in ("googlenet.torch", "inceptionv3.torch")  # which are counted there
    assert with_aux or spec.params == metas[0]["num_params"]
    metrics = [meta["_metrics"]["ImageNet-1K"] for meta in metas]
    if "keras" not in spec.weights:
        accuracies = [(metric["acc@1"], metric["acc@5"]) for metric in metrics]
        assert any((spec.top1, spec.top5) == pytest.approx(pair, abs=0.051) for pair in accuracies), accuracies


def state_dict(model):
    """Return the weights of `model` as torch lays them out, under torchvision's names."""
    names = TORCH_NAMES.get(kcnn.model_spec(model.name).family)["torchvision"]
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    suffixes = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    suffixes |= {"bias": "bias", "moving_variance": "running_var"}
    tensors = {"bn1.num_batches_tracked": np.array(7)}
    for name, module in names(list(layers)).items():
        for variable in layers[name].weights:
            axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(variable.shape), (0,))
            array = np.random.default_rng(0).uniform(0.5, 1.5, variable.shape).transpose(axes)
            tensors[f"{module}.{suffixes[variable.name]}"] = np.ascontiguousarray(array, np.float32)
    return tensors


def test_the_classifier_may_have_other_classes(tmp_path):
    tensors = state_dict(kcnn.create_model("resnet18", 7, 32))
    save_file(tensors, tmp_path / "w.safetensors")
    model = kcnn.create_model("resnet18", 5, 32)
    head = model.get_layer("head_logits").get_weights()
    report = kcnn.load_weights(model, tmp_path / "w.safetensors")
    assert report.kept == ("head_logits",)
    np.testing.assert_array_equal(model.get_layer("head_logits").kernel, head[0])
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, tensors["conv1.weight"].transpose(2, 3, 1, 0))
    maps = kcnn.create_model("resnet18", input_size=32, features_only=True)
    assert kcnn.load_weights(maps, tmp_path / "w.safetensors").kept == ()


def test_misfits_are_named_and_change_nothing(tmp_path):
    model = kcnn.create_model("resnet18", 5, 32)
    before = model.get_weights()
    tensors = state_dict(model)
    tensors["layer9.conv.weight"] = tensors.pop("layer2.1.conv2.weight")
    tensors["layer1.0.conv1.weight"] = tensors["layer1.0.conv1.weight"][:, :3]
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError) as error:
        kcnn.load_weights(model, tmp_path / "w.safetensors")
    message = str(error.value)
    assert "do not fit resnet18" in message
    assert "missing: layer2.1.conv2.weight" in message
    assert "left over: layer9.conv.weight" in message
    assert (
        "of another shape: layer1.0.conv1.weight [64, 3, 3, 3] for stage1_block1_conv1/kernel [3, 3, 64, 64]" in message
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("resnet50.torch", "resnet50", r"not torchvision's network: resnet50\.torch is"),
        ("resnet18", "resnet50", r"missing: .* of another shape: "),
        ("resnet18", "mobilenetv2.torch", r"missing: .* left over: "),
        ("resnet18", "lenet5", "they are torch's, which lenet5 is not known how to take"),
        ("resnet18", "resnet34", r"missing: layer1\.2\.conv1\.weight, .* and \d+ more"),
    ],
)
def test_another_network(source, name, message, tmp_path):
    save_file(state_dict(kcnn.create_model(source, 5, 32)), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=message):
        kcnn.load_weights(kcnn.create_model(name, 5, 32), tmp_path / "w.safetensors")


class Evil:
    """What touches a file when it is made by an unpickler that does what it is told."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_pickles_run_nothing(tmp_path):
    model, path, ran = kcnn.create_model("resnet18", 5, 32), tmp_path / "w.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Evil(ran)))
    with pytest.raises(UserError, match=r"refused: it would run pathlib\.Path\.touch"):
        kcnn.load_weights(model, path)
    assert not ran.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_torch_writes_here(zipped, tmp_path):
    if not find_spec("torch"):
        pytest.skip("needs torch: tests/peers/run torch")
    import torch

    def save(value):
        torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        return tmp_path / "w.pth"

    model, ran = kcnn.create_model("resnet18", 5, 32), tmp_path / "ran"
    with pytest.raises(UserError, match=r"refused: it would run __builtin__\.getattr"):
        kcnn.load_weights(model, save({"state_dict": {"conv1.weight": Evil(ran)}}))
    assert not ran.exists()
    tensors = {key: torch.from_numpy(value) for key, value in state_dict(model).items()}
    path = save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}, "epoch": 3})
    assert kcnn.load_weights(model, path).kept == ()
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, tensors["conv1.weight"].permute(2, 3, 1, 0))

    base = torch.arange(60.0)
    views = {"a": base, "b": base.view(3, 4, 5).permute(2, 0, 1), "c": base[7:19:3], "d": base[5], "e": base[:0]}
    views |= {str(dtype): base.view(6, 10).to(dtype) for dtype in (torch.float16, torch.float64, torch.bfloat16)}
    views |= {str(dtype): base.to(dtype) for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)}
    views |= {"bool": base > 30, "parameter": torch.nn.Parameter(base), "half": torch.nn.Linear(3, 2).half().weight}
    found = read_tensors(save(views))
    assert list(found) == list(views)
    for name, tensor in views.items():
        expected = tensor.detach()
        expected = expected.float() if expected.dtype is torch.bfloat16 else expected
        np.testing.assert_array_equal(found[name], expected.numpy(), strict=True)

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    path = save({"model": network.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5, "args": {"lr": 1}})
    found = read_tensors(path)
    assert {key: value.shape for key, value in found.items()} == {
        key: tuple(value.shape) for key, value in network.state_dict().items()
    }
    with pytest.raises(UserError, match="does not lie within"):
        read_tensors(save({"w": torch.zeros(1).expand(10**9)}))
    with pytest.raises(UserError, match=r"refused: it would run torch\.nn\.modules"):
        read_tensors(save(network))
    with pytest.raises(UserError, match=r"refused: it would run torch\._utils\._rebuild_sparse_tensor"):
        read_tensors(save({"w": torch.eye(3).to_sparse()}))


def test_a_program_of_torch_is_refused(tmp_path):
    if not find_spec("torch"):
        pytest.skip("needs torch: tests/peers/run torch")
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), tmp_path / "w.pt")
    with pytest.raises(UserError, match="a TorchScript archive"):
        read_tensors(tmp_path / "w.pt")
