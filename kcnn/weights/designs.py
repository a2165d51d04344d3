"""For which design weights are: what files say about it, and what is compared before weights are loaded.

The same weights answer differently with another activation, epsilon or padding, and their shapes do not show it.
"""

import json
from collections.abc import Mapping
from typing import Any

import keras

from kcnn.errors import UserError
from kcnn.models.spec import model_spec
from kcnn.nn.preprocessing import FITTED

# What of a layer's configuration changes its answers, beside its weights.
ARITHMETIC = ("activation", "strides", "padding", "kernel_size", "pool_size", "groups", "epsilon", "axis")
_COMPARED = (*ARITHMETIC, "scale", "offset")
# Design arguments that only matter in training or before it, or that show in the shapes of weights.
_INDIFFERENT = {
    "aux_heads",
    "block_dropout",
    "bn_momentum",
    "channels",
    "drop_path",
    "dropblock",
    "dropconnect",
    "dropout",
    "kernel_initializer",
    "layer_scale",
    "width",
}

# Layer → what of its configuration changes its answers.
Layers = dict[str, dict[str, Any]]


def describe_layers(model: keras.Model) -> Layers:
    """Return what changes the answers of each layer of `model`, weights aside, as JSON has it."""
    return _compared([{"name": layer.name, "config": layer.get_config()} for layer in model.layers])


def read_layers(config: str | bytes) -> Layers | None:
    """Return what `describe_layers` returns, from the `config.json` of a `.keras` file; None where it has no layers."""
    layers = json.loads(config).get("config", {}).get("layers")
    return None if layers is None else _compared(layers)


def _compared(layers: list[dict[str, Any]]) -> Layers:
    found = {}
    for layer in layers:
        config = layer["config"]
        found[layer["name"]] = {key: config[key] for key in _COMPARED if config.get(key) is not None}
    return {name: json.loads(json.dumps(config)) for name, config in found.items() if config}


def check_layers(model: keras.Model, described: Layers | None, source: str) -> tuple[str, ...]:
    """Refuse weights that are for a network of another arithmetic.

    Args:
        model: the network that is to have the weights.
        described: `describe_layers` of the network that the weights are from; None where the file does not say.
        source: where the weights are from, for messages.

    Returns:
        remarks: which design arguments of `model` are not the default and could not be compared.

    Raises:
        UserError: a layer computes something else in the two networks. Heads may differ.
    """
    if described is None:
        open_ = ", ".join(f"{argument}={value!r}" for argument, (value, _) in _departures(model).items())
        return (f"nothing says whether they are for {open_}",) if open_ else ()
    own = describe_layers(model)
    for name in [name for name in {**described, **own} if not name.startswith("head_")]:
        theirs, ours = described.get(name), own.get(name)
        if theirs is None or ours is None:
            owner = "this network" if theirs is None else "the file's network"
            raise UserError(f"weights {source!r} are for another design: {owner} alone has a layer {name}")
        for key in _COMPARED:
            if theirs.get(key) != ours.get(key):
                raise UserError(
                    f"weights {source!r} are for another design: {key} of layer {name} is {theirs.get(key)!r} in the "
                    f"file's network and {ours.get(key)!r} in this one"
                )
    return ()


def check_default_design(model: keras.Model, source: str) -> None:
    """Refuse weights that were published for an architecture as it is by default, where the network departs from that.

    Pixels are left aside, unless what is done with them is fitted to training images: projects publish weights for
    several ways to normalise them.

    Args:
        model: the network that is to have the weights.
        source: which weights of which architecture, for messages.

    Raises:
        UserError: a design argument that changes answers is not the architecture's.
    """
    for argument, (value, default) in _departures(model).items():
        if argument != "preprocessing" or value in FITTED:
            raise UserError(
                f"{source}: they are for its default design, {argument}={default!r}, and this one has "
                f"{argument}={value!r}"
            )


def _departures(model: keras.Model) -> dict[str, tuple[Any, Any]]:
    """Return argument → (the network's value, the architecture's), of those that change answers and are not the same.

    A network that is not `create_model`'s has no design that could be compared.
    """
    design: Mapping[str, Any] | None = getattr(model, "design", None)
    if design is None:
        return {}
    spec = model_spec(model.name)
    defaults = {**spec.design, "preprocessing": spec.preprocessing, "channels": 3}
    return {
        argument: (value, defaults[argument])
        for argument, value in design.items()
        if argument not in _INDIFFERENT and _meaning(argument, value) != _meaning(argument, defaults[argument])
    }


def _meaning(argument: str, value: Any) -> Any:
    """Return one value for all that compute the same."""
    if argument == "activation":
        return keras.activations.get(value)
    return "batch" if value == "sync_batch" else value
