"""preview by its command: the picture holds the very images that a training begins with."""

import numpy as np
import pytest
from PIL import Image

from kcnn.data.input_pipeline.preview import describe_label, draw_batch
from pipelines import command_line

COLOURS = {"blue": (20, 40, 220), "red": (230, 30, 10)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Return a folder of two classes of 12 photos, each of one colour but for noise."""
    folder = tmp_path_factory.mktemp("work")
    for label, colour in COLOURS.items():
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(12):
            noise = np.random.default_rng(index).integers(0, 20, (40, 50, 3), np.uint8)
            Image.fromarray(noise + np.uint8(colour)).save(folder / "photos" / label / f"{index}.png")
    return folder


def preview(folder, output: str, *arguments: str) -> np.ndarray:
    flags = ["--dataset", folder / "photos", "--pipeline_root", folder / "root", "--model", "mobilenetv2_0.35"]
    flags += ["--image_size", 32, "--output", folder / output, "--offline", *arguments]
    assert command_line.run(["main.py", "preview", *map(str, flags)]) == 0
    return np.asarray(Image.open(folder / output).convert("RGB")).astype(int)


def test_it_draws_the_images_and_says_what_they_are(workplace, capsys):
    """Count pixels near the classes' colours: six images in a row, nearly as wide as the picture."""
    drawn = preview(workplace, "plain.png", "--augment", "", "--images", "6")
    near = [np.abs(drawn - colour).max(axis=-1) < 25 for colour in COLOURS.values()]
    parts = [part.mean() for part in near]
    assert sum(parts) > 0.8
    assert min(parts) > 0.1
    assert "at 32x32, augmentations: none" in capsys.readouterr().out
    hidden = preview(workplace, "hidden.png", "--augment", "random_erasing(p=1,low=0.3,high=0.4,fill=grey)")
    assert (np.abs(hidden - 127.5).max(axis=-1) < 2).mean() > 0.15
    again = preview(workplace, "again.png", "--augment", "random_erasing(p=1,low=0.3,high=0.4,fill=grey)")
    np.testing.assert_array_equal(hidden, again)
    other = preview(workplace, "other.png", "--augment", "random_erasing(p=1,low=0.3,high=0.4,fill=grey)", "--seed=5")
    assert not np.array_equal(hidden, other)


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([0, 1, 0, 0], "dog"),
        ([0.37, 0.63, 0, 0], "dog 0.63 + cat 0.37"),
        ([0.25, 0.5, 0.25, 0], "dog 0.50 + cat 0.25 + 1 more"),
        ([0, 0, 0, 1], "a name that has more th…"),
    ],
)
def test_labels_in_words(shares, text):
    names = ["cat", "dog", "horse", "a name that has more than a line's letters"]
    assert describe_label(np.array(shares, np.float32), names) == text


def test_pixels_are_drawn_as_they_are(tmp_path):
    """Draw an image of single pixels, larger: each colour is in the picture, and no other but of letters."""
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.float32)
    draw_batch(image[None], np.ones((1, 1)), ["$x"], tmp_path / "one.png")
    drawn = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3)
    found = {tuple(colour) for colour in np.unique(drawn, axis=0).tolist()}
    assert {tuple(map(int, colour)) for colour in image.reshape(-1, 3)} <= found
    grey = {colour for colour in found if len(set(colour)) == 1}
    assert len(found - grey) <= 64
