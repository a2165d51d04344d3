"""The card of a version: `assets.extra/card.json`, the facts about the model for people and for later runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = Path("assets.extra", "card.json")  # within a version


def read_card(version: Path) -> dict[str, Any] | None:
    """Return the content of a version's card; None where there is no card."""
    try:
        return json.loads((version / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


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
