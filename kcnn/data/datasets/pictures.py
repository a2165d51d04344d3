"""A few freely licensed pictures, to be cut into crops: those that scikit-image and scikit-learn carry, and formulas.

Asano & Saeed, "The Augmented Image Prior: Distilling 1000 Classes by Extrapolating from a Single Image", ICLR 2023: a
teacher's answers to crops of one picture are enough to learn from. To pictures of things, textures and cells come
sheets of fractals and visual atoms, which are pictures as large. No network is asked: only files count that lie in the
packages themselves. Pictures whose documentation states no licence are left out (scikit-image's moon, page and
motorcycles).
"""

import functools
import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from kcnn.content import sha256
from kcnn.data.datasets import DATASETS, Dataset, ImageSource, atoms, digest_parts, fractals
from kcnn.data.datasets.formulas import CLASSES, SIZE
from kcnn.data.datasets.image_folder import read_file
from kcnn.data.records import UNLABELLED
from kcnn.errors import UserError

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_FREE, _CC0, _CC_BY = "public domain", "CC0-1.0", "CC-BY-2.0"
# Package, file, split, who it is from, licence: as the docstrings of skimage.data and the README beside
# scikit-learn's files have it. Validation is on pictures that no training crop comes from.
PICTURES = (
    ("skimage", "astronaut.png", "train", "NASA", _FREE),
    ("skimage", "brick.png", "train", "CC0Textures", _CC0),
    ("skimage", "camera.png", "train", "Lav Varshney", _CC0),
    ("skimage", "chelsea.png", "train", "Stefan van der Walt", _CC0),
    ("skimage", "clock_motion.png", "val", "Stefan van der Walt", _FREE),
    ("skimage", "coffee.png", "train", "Rachel Michetti", _CC0),
    ("skimage", "coins.png", "train", "Brooklyn Museum", "no known copyright restrictions"),
    ("skimage", "cell.png", "test", "scikit-image", _CC0),
    ("skimage", "grass.png", "train", "CC0Textures", _CC0),
    ("skimage", "gravel.png", "train", "CC0Textures", _CC0),
    ("skimage", "hubble_deep_field.jpg", "train", "NASA", _FREE),
    ("skimage", "ihc.png", "train", "Center for Microscopy and Molecular Imaging", "no known copyright restrictions"),
    ("skimage", "retina.jpg", "train", "Mikael Häggström", _CC0),
    ("skimage", "rocket.jpg", "val", "SpaceX", _FREE),
    ("sklearn", "china.jpg", "train", "danielbuechele (Flickr)", _CC_BY),
    ("sklearn", "flower.jpg", "train", "vultilion (Flickr)", _CC_BY),
)
SHEETS = 2  # of each family of formulas, to train on
TILES = 12  # along each side of a sheet
_FAMILIES: dict[str, Callable[[int, int], np.ndarray]] = {"fractals": fractals.draw, "atoms": atoms.draw}


def _find(package: str, name: str) -> Path:
    """Return the file of a picture in an installed package, of which no code is run."""
    found = importlib.util.find_spec(package)
    path = Path(*(found.submodule_search_locations or [""])[:1], _FOLDERS[package], name) if found else None
    if path is None or not path.is_file():
        raise UserError(
            f"--dataset pictures: {_DISTRIBUTIONS[package]} {'has no ' + name if found else 'is not installed'}; "
            "pip install 'kcnn[pretrain]'"
        )
    return path


def draw_sheet(family: str, number: int) -> bytes:
    """Draw a sheet of 12x12 images of a family of formulas, of a class each; return it as PNG, 768x768 pixels."""
    sheet = np.empty((TILES * SIZE, TILES * SIZE, 3), np.uint8)
    for tile in range(TILES * TILES):
        top, left = (SIZE * place for place in divmod(tile, TILES))
        index = number * TILES * TILES + tile
        image = _FAMILIES[family](index % CLASSES, index // CLASSES)
        sheet[top : top + SIZE, left : left + SIZE] = image
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@DATASETS.register("pictures")
def load() -> Dataset:
    """Open 16 pictures and 4 sheets of formulas, without labels; three pictures are held out.

    Raises:
        UserError: scikit-image is not installed, or lacks a picture.
    """
    paths = [_find(package, name) for package, name, *_ in PICTURES]

    def sources() -> Iterator[ImageSource]:
        for path, (package, name, split, author, licence) in zip(paths, PICTURES, strict=True):
            columns = {"author": author, "licence": licence}
            read = functools.partial(read_file, str(path))
            yield ImageSource(f"{package}/{name}", UNLABELLED, split, read, columns=columns)
        for family in _FAMILIES:
            for number in range(SHEETS):
                read = functools.partial(draw_sheet, family, number)
                columns = {"author": "kcnn", "licence": "Apache-2.0"}
                yield ImageSource(f"{family}/{number}.png", UNLABELLED, "train", read, columns=columns)

    sheets = f"{SHEETS} sheets of each of {', '.join(_FAMILIES)}, {TILES}x{TILES} tiles, 1"
    return Dataset(
        name="pictures",
        labels=(UNLABELLED,),
        sources=sources,
        count=len(PICTURES) + SHEETS * len(_FAMILIES),
        fingerprint=digest_parts([*map(sha256, paths), sheets]),
        labelled=False,
        flaws=("its pictures have no labels; expected pretrain with --objective distill or rotation",),
    )
