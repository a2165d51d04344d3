"""Answers from an exported classifier, for files, folders and bytes. Needs the export and TensorFlow, no model code."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import tensorflow as tf

from kcnn.errors import UserError, nearest

Item = str | os.PathLike | bytes


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        file: its path, or "<bytes>".
        classes: the names of the most probable classes, at most five, the best first; empty when there is an error.
        probabilities: theirs, each in [0, 1].
        error: why there is no answer, or None.
    """

    file: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


class Classifier:
    """An exported classifier; made by `load_classifier`.

    Attributes:
        directory: the version that was loaded.
        labels: all class names, in the order of the model's outputs.
        card: what `assets.extra/card.json` says of the model; None when there is none.
    """

    def __init__(self, directory: Path, labels: tuple[str, ...], card: dict[str, Any] | None, served: Any):
        self.directory = directory
        self.labels = labels
        self.card = card
        self._served = served  # keeps alive what the signature's function needs

    def predict(self, files: Item | Iterable[Item], batch_size: int = 32) -> list[Prediction]:
        """All answers of `stream`, in a list."""
        return list(self.stream(files, batch_size))

    def stream(self, files: Item | Iterable[Item], batch_size: int = 32) -> Iterator[Prediction]:
        """Yields one answer per image, in the order given; memory holds one batch.

        Args:
            files: a path, encoded bytes, or an iterable of them. Folders are walked, sorted by name, without hidden
                files. Nothing is judged by its extension. What cannot be read or decoded, and a folder without files,
                is answered by a `Prediction` with an `error`; the others of its batch are not affected.
            batch_size: images in one request, ≥ 1.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}: expected 1 or more")
        items: Iterable[Item] = [files] if isinstance(files, str | os.PathLike | bytes) else files
        contents = (content for item in items for content in _read(item))
        while batch := list(islice(contents, batch_size)):
            answers = iter(self._answers([content for _, content in batch if isinstance(content, bytes)]))
            for name, content in batch:
                if isinstance(content, bytes):
                    yield dataclasses.replace(next(answers), file=name)
                else:
                    yield Prediction(name, error=content)

    def _answers(self, images: list[bytes]) -> list[Prediction]:
        """One request; when an image in it is broken, its halves are asked again, down to the broken one."""
        if not images:
            return []
        try:
            answers = self._served.signatures["serving_default"](image_bytes=tf.constant(images))
        except tf.errors.InvalidArgumentError:
            if len(images) == 1:
                return [Prediction("", error="not an image that can be decoded" if images[0] else "the file is empty")]
            half = len(images) // 2
            return self._answers(images[:half]) + self._answers(images[half:])
        return [
            Prediction("", tuple(name.decode() for name in classes), tuple(probabilities))
            for classes, probabilities in zip(
                answers["top_classes"].numpy(), answers["top_probabilities"].numpy().tolist(), strict=True
            )
        ]


def _read(item: Item) -> Iterator[tuple[str, bytes | str]]:
    """Yields the name and bytes of every file that `item` stands for; in place of the bytes, why they cannot be had."""
    if isinstance(item, bytes):
        yield "<bytes>", item
        return
    path = Path(item)
    for file in _walk(path) if path.is_dir() else [path]:
        try:
            yield str(file), "no files in this folder" if file.is_dir() else file.read_bytes()
        except OSError as error:
            yield str(file), error.strerror or str(error)


def _walk(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yields the files below, or the outermost folder itself when it holds none; follows links, but not in circles."""
    above |= {folder.resolve()}
    empty = len(above) == 1
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.resolve() in above:
            continue
        for file in _walk(path, above) if path.is_dir() else [path]:
            empty = False
            yield file
    if empty:
        yield folder


def _version(directory: Path) -> Path | None:
    """The folder that holds saved_model.pb: `directory`, or the highest of its numbered versions."""
    versions = [path for path in directory.glob("*") if path.name.isdecimal()]
    candidates = [directory, *sorted(versions, key=lambda path: int(path.name), reverse=True)]
    return next((path for path in candidates if (path / "saved_model.pb").is_file()), None)


def load_classifier(saved_model_dir: str | os.PathLike) -> Classifier:
    """Loads an export: a version's folder, or a folder of numbered versions, of which the highest is taken.

    Raises:
        UserError: there is no SavedModel there, it cannot be read, or it is not one of `export_classifier`'s.
    """
    given = Path(saved_model_dir)
    directory = _version(given)
    if directory is None:
        around = given if given.is_dir() else given.parent
        models = [str(path) for path in sorted(around.glob("*")) if _version(path)]
        hint = f"; {nearest(str(given), models)}" if models else ""
        raise UserError(f"no saved model in {str(given)!r}: expected saved_model.pb, or numbered versions of it{hint}")
    labels, card = directory / "assets" / "labels.txt", directory / "assets.extra" / "card.json"
    try:
        served = tf.saved_model.load(str(directory))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"the saved model in {str(directory)!r} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
    if "serving_default" not in served.signatures or not labels.is_file():
        raise UserError(
            f"the saved model in {str(directory)!r} was not exported by kcnn: it has no labels or signature"
        )
    return Classifier(
        directory,
        tuple(labels.read_text(encoding="utf-8").removesuffix("\n").split("\n")),
        json.loads(card.read_text(encoding="utf-8")) if card.is_file() else None,
        served,
    )
