"""The entries of registries that components use, for `entries=` of `pipelines.engine.component`.

A new file in a registry's package changes nothing that was made with another entry.
"""

from collections.abc import Sequence
from typing import Any

from kcnn.models.factory import model_spec
from kcnn.models.spec import MODELS
from kcnn.registry import Registry
from kcnn.weights.torch_names import TORCH_NAMES


def network_entries(model: str) -> dict[Registry[Any], Sequence[str]]:
    """Return the entries by which a network is built and weights are loaded into it."""
    family = model_spec(model).family
    return {MODELS: [model], TORCH_NAMES: [family] if family in TORCH_NAMES else []}
