"""The card of a version: `assets.extra/card.json`, the facts about the model for people and for later runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn.errors import UserError

CARD = Path("assets.extra", "card.json")  # within a version


def read_card(version: Path) -> dict[str, Any] | None:
    """Return the content of a version's card; None where there is no card.

    Raises:
        UserError: the file is no card.
    """
    try:
        card = json.loads((version / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # no UTF-8, or no JSON
        raise UserError(f"{version / CARD}: damaged: {error}") from None
    if not isinstance(card, dict):
        raise UserError(f"{version / CARD}: damaged: expected a JSON object")
    return card


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
