"""Back to an earlier version: its model is published again, under the next number."""

import datetime
import os
import shutil
from pathlib import Path

from kcnn.errors import UserError
from kcnn.serving.publishing.card import CARD, Card, read_card, write_card
from kcnn.serving.publishing.folder_files import lock_folder
from kcnn.serving.publishing.labels import assigned_labels, write_labels
from kcnn.serving.publishing.versions import (
    check_version,
    list_versions,
    publish_version,
    version_digest,
)


def republish_version(folder: Path, number: int, command: str) -> Path:
    """Publish an earlier version again, under the next number, so that it is the served one.

    Nothing is removed or changed, and a rollback is taken back by a rollback. The alternative would be a configuration
    that pins TensorFlow Serving to the old number. It binds only the servers that read it, it makes "the highest is
    served" wrong for all others, and it silently keeps back every model that is published later.

    The files are hard links where the file system has them: that takes no time and no room on the disk. The card is a
    new file. Its entry "rollback" holds copy_of (the number under which the model was first published), replaces (the
    version that was served until now), created (the time) and command. A label on the replaced version moves along.

    Args:
        folder: the published model's.
        number: the version to go back to.
        command: the command line, for the card.

    Returns:
        The new version.

    Raises:
        UserError: there is no such version, or it is the served one already.
    """
    source, served = folder / str(number), list_versions(folder)[-1:]
    check_version(folder, number)
    if version_digest(source) == _digest_or_none(served[0]):
        raise UserError(f"{source}: is served already" + f", as {served[0]}" * (source != served[0]))
    replaced = int(served[0].name)
    card = read_card(source)
    rollback = {
        "copy_of": original_number(source, card),
        "replaces": replaced,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
    }

    def without_card(inner: str, names: list[str]) -> list[str]:
        """Return what is not copied: whatever is in the card's place, or in the place of its folder."""
        extra = source / CARD.parent
        if Path(inner) == extra:
            return [CARD.name]
        return [extra.name] if Path(inner) == source and not extra.is_dir() else []

    def write(staged: Path) -> None:
        shutil.copytree(source, staged, symlinks=True, copy_function=_link, ignore=without_card)
        write_card(staged, {**(card.content or {}), "rollback": rollback})

    version = publish_version(folder, write)
    with lock_folder(folder):
        assigned = assigned_labels(folder).numbers
        moved = {label: int(version.name) for label, labelled in assigned.items() if labelled == replaced}
        if moved:
            write_labels(folder, moved)
    return version


def original_number(version: Path, card: Card) -> int:
    """Return the number under which a version's model was first published; another than its own after a rollback.

    Where the card is lost or damaged, it is the lowest version that shares the version's file.
    """
    if card.rollback is not None:
        return card.rollback.copy_of
    if card.content is None or card.damage:
        return next(
            (int(other.name) for other in list_versions(version.parent) if _share_file(other, version)),
            int(version.name),
        )
    return int(version.name)


def _share_file(version: Path, other: Path) -> bool:
    """Return whether one of two versions is a copy of the other, made by hard links."""
    try:
        return (version / "saved_model.pb").samefile(other / "saved_model.pb")
    except OSError:
        return False


def _digest_or_none(version: Path) -> str | None:
    """Return the digest of a version's files; None where they cannot be read, which is a reason to roll back."""
    try:
        return version_digest(version)
    except OSError:
        return None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no links
        shutil.copy2(source, target)
