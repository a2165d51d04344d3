"""The text of `--augment`: names, some with arguments, such as `randaugment(n=3,m=12),cutmix(alpha=0.5)`.

Which names and arguments there are, the registry knows (`kcnn.data.input_pipeline.augmentations`). This file needs no
TensorFlow, so that a mistake in writing is known at once.
"""

import re
from typing import NamedTuple

from kcnn.errors import UserError, shortened

_ONE = re.compile(r"\s*([^\s(),=]+)\s*(?:\(([^()]*)\))?\s*")


class AugmentationText(NamedTuple):
    """An augmentation as it is written.

    Attributes:
        name: of the augmentation.
        arguments: the arguments that are given, by name, each as it is written.
    """

    name: str
    arguments: dict[str, str]

    def __str__(self) -> str:
        inside = ",".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.name}({inside})" if inside else self.name


def split_augmentations(text: str) -> tuple[str, ...]:
    """Return the augmentations of a text, each in its canonical form: without spaces and empty brackets.

    Raises:
        UserError: the text is written in another way than `name,name(argument=value,argument=value)`.
    """
    # At the commas that stand in no bracket.
    parts = [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]
    return tuple(str(parse_augmentation(part)) for part in parts)


def parse_augmentation(text: str) -> AugmentationText:
    """Return the parts of one augmentation's text.

    Raises:
        UserError: it is written in another way.
    """
    expected = "expected name(argument=value,...), as in randaugment(n=3,m=12),cutmix(alpha=0.5)"
    found = _ONE.fullmatch(text)
    if found is None:
        raise UserError(f"--augment {shortened(text.strip())!r}: {expected}")
    arguments: dict[str, str] = {}
    for part in filter(str.strip, (found[2] or "").split(",")):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not (name and separator and value) or "=" in value:
            raise UserError(f"--augment {text.strip()}: {part.strip()!r}: {expected}")
        if name in arguments:
            raise UserError(f"--augment {text.strip()}: {name} is given twice; expected once")
        arguments[name] = value
    return AugmentationText(found[1], arguments)
