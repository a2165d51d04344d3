"""What Pusher makes."""

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kcnn.json_files import read_json
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import read_card
from pipelines.engine.component import Artifact


class PushedModel(Artifact):
    """Where the model was published, or why it was not.

    <path>/pushed.json   {"version": the folder under saved_models or null, "refused": the checks that stood against it,
                         "notes": what to know of how it was published, or how to go on; lines for people}
    <path>/begun.json    {"folder": where it is going to be published, "publication": what its card will have}
    """

    shown = ("version",)

    def begin(self, folder: Path) -> str:
        """Write that a version in `folder` is going to be published.

        Returns:
            what the version's card is to have as "publication": it is found by that if the process is killed.
        """
        begun = {"folder": str(folder.absolute()), "publication": uuid.uuid4().hex}
        (self.path / "begun.json").write_text(json.dumps(begun) + "\n", encoding="utf-8")
        return begun["publication"]

    def recovered(self) -> bool:
        """Return whether the version that was going to be published is; if so, write the rest."""
        try:
            begun = read_json(self.path / "begun.json")
            publication, found = str(begun["publication"]), versions.list_versions(Path(begun["folder"]))
        except (OSError, ValueError, TypeError, KeyError):  # it had not begun
            return False
        for version in found:
            card = read_card(version)
            if publication and card.publication == publication:
                self.write(version, notes=card.notes)
                return True
        return False

    def write(self, version: Path | None, refused: Sequence[str] = (), notes: Sequence[str] = ()) -> None:
        """Write pushed.json."""
        content = {"version": version and str(version), "refused": list(refused), "notes": list(notes)}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (self.path / "pushed.json").write_text(text + "\n", encoding="utf-8")

    def _content(self) -> dict[str, Any]:
        return read_json(self.path / "pushed.json")

    def version(self) -> Path | None:
        """Read the published folder; None where it was refused."""
        version = self._content()["version"]
        return version and Path(version)

    def refused(self) -> list[str]:
        """Read why it was not published, a line for each check."""
        return self._content()["refused"]

    def notes(self) -> list[str]:
        """Read what to know of how it was published, or how to go on where it was not."""
        return self._content()["notes"]

    def properties(self) -> dict[str, Any]:
        """Return the published folder, or why there is none.

        The folder is given by itself and from here: the second still finds it when both have moved together.
        """
        version = self.version()
        if version is None:
            return {"pushed": 0, "refused": self.refused(), "notes": self.notes()}
        version = version.absolute()
        paths = {"version": str(version), "from_here": os.path.relpath(version, self.path.absolute())}
        return {"pushed": 1, **paths, "notes": self.notes()}
