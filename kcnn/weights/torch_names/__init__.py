"""Names that torch projects have for our layers: a file for each family, found by the registry."""

import re
from collections.abc import Callable, Iterable, Mapping

from kcnn.registry import Registry

# Names of our layers, those with weights, in the model's order → the torch module of each.
Names = Callable[[list[str]], dict[str, str]]

# family → project ("torchvision", "timm") → its names
TORCH_NAMES: Registry[Mapping[str, Names]] = Registry("torch layout", "kcnn.weights.torch_names")


def renamed(*rows: tuple[str, str | Callable[..., str]]) -> Names:
    """Make a function that names layers by patterns.

    Args:
        rows: (regular expression for the whole of our layer's name, torch's name: text, or a function of the groups,
            which are numbers where they are digits). The first that matches holds.
    """
    compiled = [(re.compile(pattern), name) for pattern, name in rows]

    def name_of(layer: str) -> Iterable[tuple[str, str]]:
        for pattern, name in compiled:
            if match := pattern.fullmatch(layer):
                groups = [int(group) if group and group.isdecimal() else group for group in match.groups()]
                yield layer, name if isinstance(name, str) else name(*groups)
                return

    return lambda layers: dict(pair for layer in layers for pair in name_of(layer))
