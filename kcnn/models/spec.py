"""Facts about an architecture that are known before it is built; where architectures are registered and found."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import KerasTensor

from kcnn.nn.blocks import Ops
from kcnn.nn.heads import pooled
from kcnn.registry import Registry, caller_module

# (x, ops, **own design arguments) → the last feature map
Features = Callable[..., KerasTensor]
# (features, ops, classes) → logits
Head = Callable[[KerasTensor, Ops, int], KerasTensor]
# (features, ops, classes, *, name) → logits
AuxiliaryHead = Callable[..., KerasTensor]
# What a design argument can be.
DesignValue = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class Application:
    """The twin of an architecture in keras.applications.

    Attributes:
        function: its name there.
        imagenet: the file of its ImageNet weights with the classifier, below the Keras project's storage, or its
            address.
        file_hash: MD5 or SHA-256 of that file, where Keras has it.
        cached_as: its name in Keras' cache, where that is another than in storage.
        arguments: beyond weights, input_shape, classes and classifier_activation.
    """

    function: str
    imagenet: str
    file_hash: str | None = None
    cached_as: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class WeightsPackage:
    """A package of the Python Package Index that carries the ImageNet weights of an architecture.

    Attributes:
        name: of the package.
        version: the one whose file is known.
        file: its file of weights, as the package installs it.
        sha256: of that file in that version.
        licence: of the weights, as SPDX has it.
    """

    name: str
    version: str
    file: str
    sha256: str
    licence: str


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One row of a family's table.

    Attributes:
        name: as users type it.
        family: the architecture of which it is a variant.
        features: (x, ops, **own design arguments) → the last feature map, float [N, H, W, C]; its layers' names begin
            with their stage, `stem_` or `stage1_`, `stage2_`, ...
        paper: authors, title, venue, arXiv number.
        year: of the paper.
        input_size: height and width in pixels that the paper's figures are for.
        min_size: the smallest height and width that the network takes.
        params: trainable parameters with 1000 classes.
        macs: multiply-adds of one image at `input_size`, of convolutions and dense layers.
        preprocessing: a mode of `kcnn.nn.preprocessing`.
        design: the arguments that `create_model` takes for it, with their defaults: fields of `Ops`, and those of
            `features`. `kcnn.models.design` says which values each takes.
        head: (features, ops, classes) → logits.
        application: its twin in keras.applications, if any.
        package: what carries its ImageNet weights, if any.
        torch: project ("torchvision", "timm", ...) → its name there for a network of the same arithmetic, whose state
            dicts `kcnn.load_weights` takes.
        top1: accuracy on ImageNet's validation images, one central crop, in percent: of the weights that can be loaded
            where there are any, otherwise the paper's.
        top5: the same, of the five most likely classes.
        auxiliary: the layers that auxiliary classifiers are attached to under the design argument `aux_heads`, and
            their heads, (x, ops, classes, *, name) → logits.
        auxiliary_weight: of each one's loss.
        note: where published figures differ from these, and why.
    """

    name: str
    family: str
    features: Features
    paper: str
    year: int
    input_size: int
    min_size: int
    params: int
    macs: int
    preprocessing: str
    design: Mapping[str, DesignValue]
    head: Head = pooled
    application: Application | None = None
    package: WeightsPackage | None = None
    torch: Mapping[str, str] = dataclasses.field(default_factory=dict)
    top1: float | None = None
    top5: float | None = None
    auxiliary: Mapping[str, AuxiliaryHead] = dataclasses.field(default_factory=dict)
    auxiliary_weight: float = 0.3
    note: str = ""

    @property
    def weights(self) -> list[str]:
        """The projects whose ImageNet weights it takes: "keras", which it fetches itself, "torchvision", "timm", ..."""
        return ["keras"] * (self.application is not None) + list(self.torch)


MODELS: Registry[ModelSpec] = Registry("model", "kcnn.models")


def register(*rows: ModelSpec) -> None:
    """Register architectures under their names.

    Raises:
        ValueError: a name is taken.
    """
    module = caller_module()
    for row in rows:
        MODELS.add(row.name, row, module=module)


def list_models() -> list[str]:
    """Return the names of all architectures."""
    return MODELS.names()


def model_spec(name: str) -> ModelSpec:
    """Return the facts about an architecture: `.params`, `.macs`, `.input_size`, `.min_size`, `.paper`, ...

    Args:
        name: as `list_models` has it; case, "-" and "_" are forgiven.

    Raises:
        UserError: there is no such name; the message has the closest ones.
    """
    return MODELS.get(name)


def stages(model: keras.Model) -> list[str]:
    """Return the stages of a model in order, the first words of its layers' names: "preprocess", "stem", "stage1", ...

    The last is "head". The input layer belongs to none.

    Raises:
        ValueError: a layer's name begins otherwise.
    """
    names = {layer.name.split("_")[0] for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)}
    return sorted(names, key=_order)


def _order(stage: str) -> tuple[int, int]:
    kinds = ["preprocess", "stem", "stage", "head"]
    kind = stage.rstrip("0123456789")
    return kinds.index(kind), int(stage.removeprefix(kind) or 0)
