"""Back to an earlier version: its model is published again, under the next number."""

import datetime
import os
import shutil
from pathlib import Path

from kcnn.errors import UserError
from kcnn.serving.publishing.card import CARD, read_card, write_card
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
    if version_digest(source) == version_digest(served[0]):
        raise UserError(f"{source}: is served already" + f", as {served[0]}" * (source != served[0]))
    replaced = int(served[0].name)
    card = read_card(source) or {}
    card["rollback"] = {
        "copy_of": original_number(source),
        "replaces": replaced,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
    }

    def write(staged: Path) -> None:
        shutil.copytree(source, staged, copy_function=_link)
        (staged / CARD).unlink(missing_ok=True)  # the link, before a file of the same name is written
        write_card(staged, card)

    version = publish_version(folder, write)
    with lock_folder(folder):
        assigned = assigned_labels(folder)
        moved = {label: int(version.name) for label, labelled in assigned.items() if labelled == replaced}
        if moved:
            write_labels(folder, {**assigned, **moved})
    return version


def original_number(version: Path) -> int:
    """Return the number under which a version's model was first published; another than its own after a rollback.

    Raises:
        UserError: the version's card is damaged.
    """
    rollback = (read_card(version) or {}).get("rollback")
    if rollback is None:
        return int(version.name)
    number = rollback.get("copy_of") if isinstance(rollback, dict) else None
    if not isinstance(number, int):
        raise UserError(f"{version / CARD}: damaged: expected the number of a version as copy_of of the rollback")
    return number


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no links
        shutil.copy2(source, target)
