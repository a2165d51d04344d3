"""The entries of registries that components use, for `entries=` of `pipelines.engine.component`.

A new file in a registry's package changes nothing that was made with another entry.
"""

from collections.abc import Sequence
from typing import Any

from kcnn.config import Config
from kcnn.data.input_pipeline.augmentation_texts import parse_augmentation
from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS
from kcnn.models.spec import MODELS, model_spec
from kcnn.registry import Registry
from kcnn.weights.torch_names import TORCH_NAMES

Entries = dict[Registry[Any], Sequence[str]]


def network_entries(model: str, augmentations: Sequence[str] = ()) -> Entries:
    """Return the entries by which a network is built, weights are loaded into it, and images are augmented for it."""
    family = model_spec(model).family
    return {MODELS: [model], TORCH_NAMES: [family] if family in TORCH_NAMES else [], AUGMENTATIONS: augmentations}


def training_entries(config: Config, more: Sequence[str] = ()) -> Entries:
    """Return the entries by which a network is trained; `more` are augmentations beside the Config's."""
    texts = {text for phase in config.phases for text in phase.augmentations}.union(more)
    return network_entries(config.model, sorted({parse_augmentation(text).name for text in texts}))


def pretraining_entries(config: Config) -> Entries:
    """Return the entries by which a network is pre-trained, its teacher's too."""
    entries = training_entries(config)
    taught = network_entries(config.teacher) if config.teacher else {}
    return {registry: sorted({*names, *taught.get(registry, ())}) for registry, names in entries.items()}
