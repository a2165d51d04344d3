"""The card of a version: `assets.extra/card.json`, the facts about the model for people and for later runs.

No version needs its card to be served. What is damaged in it is told, and all that is sound is used.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kcnn.json_files import DamagedFileError, read_json

CARD = Path("assets.extra", "card.json")  # within a version


@dataclasses.dataclass(frozen=True)
class Rollback:
    """What a card says of the rollback that made its version.

    Attributes:
        copy_of: the number under which the model was first published.
        replaces: the version that was served until then; None where it is not known.
        created: the time, as text.
        command: the command line.
    """

    copy_of: int
    replaces: int | None = None
    created: str = "unknown"
    command: str = "unknown"


@dataclasses.dataclass(frozen=True)
class Card:
    """What is sound of a card.

    Attributes:
        content: the file's, without what is damaged; None where there is no file, or none of it can be read.
        rollback: of a version that a rollback made; None of any other.
        publication: by which Pusher knows its version; "" where there is none.
        notes: what to know of how it was published, a line each.
        damage: what is not sound, a line each.
    """

    content: dict[str, Any] | None = None
    rollback: Rollback | None = None
    publication: str = ""
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


# What the program itself uses: entry → whether a value is sound, and what is expected.
_Fields = dict[str, tuple[Callable[[Any], bool], str]]
_ENTRIES: _Fields = {
    "publication": (_is_text, "text"),
    "notes": (_are_texts, "a list of texts"),
    "rollback": (lambda value: isinstance(value, dict) and "copy_of" in value, "an object with copy_of"),
}
_ROLLBACK: _Fields = {
    "copy_of": (_is_number, "the number of a version"),
    "replaces": (_is_number, "the number of a version"),
    "created": (_is_text, "text"),
    "command": (_is_text, "text"),
}


def read_card(version: Path) -> Card:
    """Return what is sound of a version's card, and what is not."""
    path = version / CARD
    try:
        read = read_json(path)
    except FileNotFoundError:
        return Card()
    except DamagedFileError as error:
        return Card(damage=(str(error),))
    content, damage = _sound(path, "", read, _ENTRIES)
    rollback = None
    if "rollback" in content:
        facts, lines = _sound(path, "rollback.", content["rollback"], _ROLLBACK)
        damage += lines
        content["rollback"] = facts
        if "copy_of" in facts:
            rollback = Rollback(**{name: facts[name] for name in _ROLLBACK if name in facts})
        else:
            del content["rollback"]
    return Card(
        content, rollback, content.get("publication", ""), tuple(content.get("notes", ())), damage=tuple(damage)
    )


def _sound(path: Path, where: str, content: dict[str, Any], fields: _Fields) -> tuple[dict[str, Any], list[str]]:
    """Return the entries but for those that are damaged, and a line for each of these."""
    wrong = [name for name, (is_sound, _) in fields.items() if name in content and not is_sound(content[name])]
    lines = [f"{path}: damaged: {where}{name}: expected {fields[name][1]}" for name in wrong]
    return {name: value for name, value in content.items() if name not in wrong}, lines


def write_card(version: Path, card: Mapping[str, Any]) -> None:
    """Write a card into an export.

    Args:
        version: the folder of the export.
        card: anything that JSON can hold.

    Raises:
        ValueError: the card holds NaN or infinity.
    """
    text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path = version / CARD
    path.parent.mkdir(exist_ok=True)
    # File names that are not UTF-8 are escaped.
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
