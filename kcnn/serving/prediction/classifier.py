"""Answers from an exported classifier, for files, folders, bytes and pixels.

It needs the export and TensorFlow, no model code. Another runtime also needs the version's network in its format.
"""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from PIL import Image

from kcnn.data import pictures
from kcnn.data.foreign_formats import explain_format
from kcnn.data.input_pipeline.headers import decoding_cost
from kcnn.errors import UserError
from kcnn.json_files import read_small_text
from kcnn.plain_paths import plain_path
from kcnn.serving.prediction import runtimes
from kcnn.serving.prediction.inputs import Fetch, InputImage, ReaderThreads, UnreadableError, expand_input
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import read_card

# What `Classifier.predict` takes: a path, pattern or URL; an encoded image; RGB pixels from 0 to 255, uint8 or float
# [H, W, 3] or [N, H, W, 3]; a PIL image; an image that is read later.
Item = str | os.PathLike[str] | bytes | np.ndarray | Image.Image | InputImage

BATCH_BYTES = 64 * 2**20  # of files in one request, unless a single one is larger
_TOP = 5
# By kind of content, the signature and its input; named in each call, since TensorFlow tries a nameless one by names
# first, and writes all of it into the message of that error.
_SIGNATURES = {
    "bytes": ("serving_default", "image_bytes"),
    "uint8": ("images", "images"),
    "float32": ("images_float", "images"),
}


class ServedVersion(Protocol):
    """A loaded version, as `tf.saved_model.load` and `kcnn.serving.prediction.runtimes.load_runtime` return it."""

    @property
    def signatures(self) -> Mapping[str, tf.types.experimental.ConcreteFunction]:
        """The functions of the version, by name."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        file: the image's path or URL, or "<bytes>", "<array>" or "<image>".
        classes: the names of the most probable classes, the best first; empty when there is an error.
        probabilities: the probabilities of these classes, each in [0, 1].
        error: why there is no answer, or None.
    """

    file: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


class Classifier:
    """An exported classifier; made by `load_classifier`. Threads may share it.

    Attributes:
        directory: the version that was loaded.
        labels: all class names, in the order of the model's outputs.
        card: what is sound of `assets.extra/card.json`; None where there is none.
    """

    def __init__(self, directory: Path, labels: tuple[str, ...], card: dict[str, Any] | None, served: ServedVersion):
        self.directory = directory
        self.labels = labels
        self.card = card
        self._served = served  # keeps alive what the signatures' functions need

    def predict(
        self,
        inputs: Item | Iterable[Item],
        batch_size: int = 32,
        *,
        top: int = _TOP,
        fetch: Fetch | None = None,
    ) -> list[Prediction]:
        """Return all answers of `stream`, in a list."""
        return list(self.stream(inputs, batch_size, top=top, fetch=fetch))

    def stream(
        self,
        inputs: Item | Iterable[Item],
        batch_size: int = 32,
        *,
        top: int = _TOP,
        fetch: Fetch | None = None,
    ) -> Iterator[Prediction]:
        """Yield one answer per image, in the order given. Memory holds two batches: one is read, one is answered.

        Args:
            inputs: one of the following, or an iterable of them, mixed as they come:
                a path, or a pattern as in `expand_input`. Folders are walked. What cannot be read or decoded is
                answered by a `Prediction` with an `error`; the others are not affected.
                an encoded image's bytes.
                RGB pixels from 0 to 255, uint8 or float, [H, W, 3] or, each of them answered, [N, H, W, 3].
                a PIL image; EXIF orientation is honoured, and what is transparent is on white, as of files.
                a URL, where `fetch` allows it.
            batch_size: images in one request, ≥ 1; fewer when they are large files.
            top: how many classes to name, ≥ 1.
            fetch: gives what a URL answers, as `kcnn.serving.prediction.urls.fetch_url` does; None refuses URLs.

        Raises:
            UserError: `batch_size` or `top` is out of range, or an input is none of these; the message names its type.
        """
        if top < 1:
            raise UserError(f"top is {top}: expected 1 or more")
        with contextlib.closing(_batches(inputs, batch_size, fetch)) as batches:
            for batch in batches:
                yield from self._answer(batch, top)

    def embed(self, inputs: Item | Iterable[Item], batch_size: int = 32, *, fetch: Fetch | None = None) -> np.ndarray:
        """Return the features that the network finds in each image, before it decides: float32 [N, D].

        Args:
            inputs: as in `stream`, but for float pixels.
            batch_size: as in `stream`.
            fetch: as in `stream`.

        Raises:
            UserError: the export has no embeddings, or an image cannot be read or decoded.
        """
        if "embed" not in self._served.signatures:
            raise UserError(f"{self.directory}: has no signature embed: publish the model again")
        signature = self._served.signatures["embed"]
        rows = []
        with contextlib.closing(_batches(inputs, batch_size, fetch)) as batches:
            for batch in batches:
                encoded = [_encoded(name, content) for name, content in batch]
                answer = signature(image_bytes=tf.constant(encoded))
                for (name, _), content, status in zip(batch, encoded, answer["status"].numpy(), strict=True):
                    if status:
                        raise UserError(f"{name}: {explain_format(content, name) or status.decode()}")
                rows.append(answer["embedding"].numpy())
        return np.concatenate(rows) if rows else np.zeros((0, signature.structured_outputs["embedding"].shape[1]), "f")

    def _answer(self, batch: list[tuple[str, Any]], top: int) -> Iterator[Prediction]:
        """Yield the answers in order, by one request for each kind of content."""
        answers: dict[int, Prediction] = {}
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for index, (name, content) in enumerate(batch):
            # Exports of earlier versions of this program count the pixels alone.
            if isinstance(content, bytes) and (excess := decoding_cost(content).excess):
                answers[index] = Prediction(name, error=f"too large: {excess}")
            elif isinstance(content, UnreadableError):
                answers[index] = Prediction(name, error=str(content))
            else:
                kind = ("bytes",) if isinstance(content, bytes) else (content.dtype.name, *content.shape)
                kinds.setdefault(kind, []).append(index)
        for (kind, *_), indices in kinds.items():
            found = self._ask(kind, [batch[index][1] for index in indices], top)
            for index, answer in zip(indices, found, strict=True):
                name, content = batch[index]
                error = answer.error
                if error is not None and kind == "bytes":
                    error = explain_format(content, name) or error
                answers[index] = dataclasses.replace(answer, file=name, error=error)
        for index in range(len(batch)):
            yield answers[index]

    def _ask(self, kind: str, images: list[Any], top: int) -> list[Prediction]:
        """Return the answers of one request.

        When it fails, its halves are asked again, down to the image at fault: exports of earlier versions of this
        program, which answer without "status", fail for one that cannot be decoded; others where memory is short.
        """
        name, taken = _SIGNATURES[kind]
        if name not in self._served.signatures:
            raise UserError(f"{self.directory}: takes no {kind} pixels: publish the model again, or pass uint8")
        try:
            content = tf.constant(images if kind == "bytes" else np.stack(images))
            answer = self._served.signatures[name](**{taken: content})
        except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
            short = isinstance(error, tf.errors.ResourceExhaustedError)
            if kind != "bytes" and not short:
                raise
            if len(images) == 1:
                reason = "not an image that can be decoded" if len(images[0]) else "the file is empty"
                return [Prediction("", error="it does not fit into the memory" if short else reason)]
            half = len(images) // 2
            return self._ask(kind, images[:half], top) + self._ask(kind, images[half:], top)
        if top <= answer["top_classes"].shape[1]:
            classes = answer["top_classes"].numpy()[:, :top].tolist()
            largest = answer["top_probabilities"].numpy()[:, :top].tolist()
        else:
            probabilities = answer["probabilities"].numpy()
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            classes = [[self.labels[index].encode() for index in row] for row in order]
            largest = np.take_along_axis(probabilities, order, axis=1).tolist()
        status = answer["status"].numpy().tolist() if "status" in answer else [b""] * len(images)
        return [
            Prediction("", error=reason.decode())
            if reason
            else Prediction("", tuple(label.decode() for label in names), tuple(numbers))
            for reason, names, numbers in zip(status, classes, largest, strict=True)
        ]


def _batches(
    inputs: Item | Iterable[Item], batch_size: int, fetch: Fetch | None
) -> Generator[list[tuple[str, bytes | np.ndarray | UnreadableError]]]:
    """Yield the names and contents of one request after the other, and read the files of the next meanwhile."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: expected 1 or more")
    if isinstance(inputs, str | os.PathLike | bytes | bytearray | np.ndarray | Image.Image | tf.Tensor | InputImage):
        inputs = [inputs]
    sources = chain.from_iterable(_contents(item, fetch) for item in inputs)
    readers = ReaderThreads()

    def started() -> list[tuple[str, Any]]:
        """Return the next batch; its files are being read."""
        batch: list[tuple[str, Any]] = []
        size = 0
        while len(batch) < batch_size and size < BATCH_BYTES and (source := next(sources, None)) is not None:
            if isinstance(source, InputImage):
                batch.append((source.name, readers.submit(source.read)))
                size += source.size
            else:
                batch.append(source)
                content = source[1]
                size += len(content) if isinstance(content, bytes) else getattr(content, "nbytes", 0)
        return batch

    try:
        current = started()
        while current:
            following = started()
            yield [(name, _read(content) if isinstance(content, Future) else content) for name, content in current]
            current = following
    finally:
        readers.close()


def _read(future: "Future[bytes]") -> bytes | UnreadableError:
    try:
        return future.result()
    except UnreadableError as error:
        return error


def _contents(
    item: Item, fetch: Fetch | None
) -> Iterator[InputImage | tuple[str, bytes | np.ndarray | UnreadableError]]:
    """Yield the images that one of the inputs stands for."""
    if isinstance(item, InputImage):
        yield item
    elif isinstance(item, str | os.PathLike):
        yield from expand_input(item, fetch)
    elif isinstance(item, bytes | bytearray | memoryview):
        yield "<bytes>", bytes(item)
    elif isinstance(item, Image.Image):
        yield getattr(item, "filename", "") or "<image>", _pixels(item)
    elif isinstance(item, np.ndarray | np.generic | tf.Tensor):
        array = _checked(np.asarray(item))
        yield from (("<array>", image) for image in (array if array.ndim == 4 else [array]))
    else:
        raise UserError(
            f"an input of type {type(item).__name__}: expected a path, bytes, an array of RGB pixels or a PIL image"
        )


def _checked(array: np.ndarray) -> np.ndarray:
    """Return an array as a signature takes it: uint8 or float32."""
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape[-3:]:
        raise UserError(f"an array of shape {array.shape}: expected [H, W, 3] or [N, H, W, 3], RGB pixels")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise UserError(f"an array of {array.dtype}: expected uint8, or float, from 0 to 255")
    if not np.isfinite(array).all():
        raise UserError(f"an array of {array.dtype} with a number that is not finite: expected 0 to 255")
    if array.size and 0 < array.max() <= 1:
        warnings.warn("float pixels, none above 1: expected 0 to 255, so this looks black", stacklevel=2)
    return array.astype(np.float32, copy=False)


def _pixels(image: Image.Image) -> np.ndarray | UnreadableError:
    """Return the pixels that a file of the image would have: upright, RGB on white, the high byte of 16 bits."""
    if image.mode in ("I", "F"):
        raise UserError(f"a PIL image of mode {image.mode}, whose range is unknown: convert it to L or RGB")
    try:
        with pictures.reading_picture():  # it is read only now
            upright = pictures.turn_upright(pictures.decode_colours(image), pictures.read_orientation(image))
    except pictures.DamagedPictureError as error:
        return UnreadableError(str(error))
    return _checked(np.asarray(upright))


def _encoded(name: str, content: bytes | np.ndarray | UnreadableError) -> bytes:
    """Return an encoded image, for a signature that takes nothing else; pixels become a PNG."""
    if isinstance(content, UnreadableError):
        raise UserError(f"{name}: {content}")
    if isinstance(content, bytes):
        return content
    if content.dtype != np.uint8:
        raise UserError("embed takes no float pixels: expected uint8")
    return bytes(tf.io.encode_png(content).numpy())


def load_classifier(saved_model_dir: str | os.PathLike[str], runtime: str = "tensorflow") -> Classifier:
    """Load an export: a version's folder, or the highest version of a folder of numbered versions.

    The highest version is the served one, also after a rollback.

    Args:
        saved_model_dir: the folder.
        runtime: what runs the network: "tensorflow", or "openvino" or "onnx" where the version has that format. The
            answers are the same up to rounding.

    Raises:
        UserError: there is no SavedModel there, it cannot be read, or it is not one of `export_classifier`'s; or the
            version lacks the runtime's format, or the machine its package.
    """
    directory = versions.find_saved_model(saved_model_dir)
    runtimes.find_runtime_file(runtime, directory)
    labels = directory / "assets" / "labels.txt"
    try:
        if runtime == "tensorflow":
            with plain_path(directory) as path:
                served = tf.saved_model.load(path)
        else:
            served = runtimes.load_runtime(runtime, directory)
    except UserError:
        raise
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"the saved model in {str(directory)!r} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
    if "serving_default" not in served.signatures or not labels.is_file():
        raise UserError(
            f"the saved model in {str(directory)!r} was not exported by kcnn: it has no labels or signature"
        )
    names = tuple(read_small_text(labels).removesuffix("\n").split("\n"))
    probabilities = served.signatures["serving_default"].structured_outputs.get("probabilities")
    classes = None if probabilities is None or probabilities.shape.rank is None else probabilities.shape[-1]
    if classes not in (None, len(names)):
        raise UserError(f"{labels}: damaged: {len(names)} lines; expected the names of {classes} classes")
    return Classifier(directory, names, read_card(directory).content, served)
