"""Images drawn by formulas: the same at every reading, true to their formulas, and different between classes."""

import collections
import dataclasses
import io
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image
from scipy.spatial import cKDTree
from sklearn.neighbors import KNeighborsClassifier

from kcnn.data.datasets import atoms, formulas, fractals
from kcnn.data.datasets.formulas import CLASSES, INSTANCES, SIZE
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion.ingest import ingest
from kcnn.data.input_pipeline.decode import decode_image

FAMILIES = {"fractals": fractals, "atoms": atoms}


def covers(monkeypatch, module, classes, instances):
    """Return the coverage that `module` passes to `paint`, (classes, instances, 64, 64)."""
    monkeypatch.setattr(module, "paint", lambda rng, cover, tone: cover)
    return np.array([[module.draw(klass, instance) for instance in instances] for klass in classes])


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    dataset = open_dataset(name)
    sources = list(dataset.sources())
    assert dataset.count == len(sources) == CLASSES * INSTANCES
    assert len(set(dataset.labels)) == CLASSES
    counts = collections.Counter((source.label, source.split) for source in sources)
    assert counts == {
        (label, split): count
        for label in dataset.labels
        for split, count in {"train": INSTANCES - 5, "val": 4, "test": 1}.items()
    }


def test_union_takes_a_class_of_each_family_in_turn():
    union, parts = open_dataset("formulas"), [open_dataset(name) for name in ("fractals", "atoms")]
    names = [source.filename for source in union.sources()]
    assert union.count == len(names) == len(set(names)) == sum(part.count for part in parts)
    assert set(names) == {source.filename for part in parts for source in part.sources()}
    order = [label for label, _ in itertools.groupby(union.sources(), lambda source: source.label)]
    assert order == list(union.labels)
    assert order[:4] == ["fractal000", "atom000", "fractal001", "atom001"]


@pytest.mark.parametrize("name", ["fractals", "atoms", "formulas"])
def test_the_same_at_every_reading(name):
    def some():
        return list(itertools.islice(open_dataset(name).sources(), 3, None, 3001))

    first, second = some(), some()
    assert [dataclasses.replace(s, read=None) for s in first] == [dataclasses.replace(s, read=None) for s in second]
    with ThreadPoolExecutor(2) as pool:
        threaded = list(pool.map(lambda source: source.read(), reversed(second)))
    read = [source.read() for source in first]
    assert read == threaded[::-1]
    assert len(set(read)) == len(read)


def test_nothing_is_remembered_but_what_can_be_found_again():
    before = [draw(3, 5) for draw in (fractals.draw, atoms.draw)]
    for cached in (formulas._textures, fractals._shuffles, fractals.systems, atoms.parameters):
        cached.cache_clear()
    np.testing.assert_array_equal(before, [draw(3, 5) for draw in (fractals.draw, atoms.draw)])


@pytest.mark.parametrize("module", FAMILIES.values(), ids=FAMILIES)
def test_shapes_tell_classes_apart(monkeypatch, module):
    """Classify held-out shapes by the nearest outline, scaled to 16x16 pixels: more than place and size differ."""
    shapes = covers(monkeypatch, module, range(0, 200, 20), range(50))

    def outline(shape):
        rows, columns = np.nonzero(shape > 0.5)
        box = shape[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        return np.asarray(Image.fromarray(box.astype(np.float32)).resize((16, 16), Image.Resampling.BOX)).ravel()

    outlines = np.array([[outline(shape) for shape in instances] for instances in shapes])
    labels = np.repeat(np.arange(10), 10)
    model = KNeighborsClassifier(1).fit(outlines[:, :40].reshape(400, -1), np.repeat(np.arange(10), 40))
    assert model.score(outlines[:, 40:].reshape(100, -1), labels) > 0.4  # by chance 0.1


@pytest.mark.parametrize("module", FAMILIES.values(), ids=FAMILIES)
def test_shapes_are_within_the_frame_and_visible(monkeypatch, module):
    shapes = covers(monkeypatch, module, range(0, CLASSES, 25), range(10)).reshape(-1, SIZE, SIZE)
    assert shapes.min() >= 0
    assert shapes.max() <= 1
    share = shapes.mean(axis=(1, 2))
    assert share.min() > 0.01
    assert share.max() < 0.75
    border = np.concatenate([shapes[:, 0], shapes[:, -1], shapes[:, :, 0], shapes[:, :, -1]], axis=1)
    assert border.mean() < 0.1 * share.mean()
    rows, columns = (np.einsum("nhw,h->n", s, np.arange(SIZE)) / s.sum(axis=(1, 2)) for s in (shapes, shapes.mT))
    assert rows.std() > 2
    assert columns.std() > 2


@pytest.mark.parametrize("module", FAMILIES.values(), ids=FAMILIES)
def test_colours_vary_and_shapes_stand_out(module):
    images = np.array([module.draw(klass, instance) for klass in range(0, CLASSES, 20) for instance in range(10)])
    assert images.shape == (200, SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    grey = (images == images[..., :1]).all(axis=(1, 2, 3))
    assert 0.05 < grey.mean() < 0.3
    plain = np.array([(image[[0, 0, -1, -1], [0, -1, 0, -1]] == image[0, 0]).all() for image in images])
    assert 0.4 < plain.mean() < 0.9
    corners = images[:, 0, 0].astype(float)
    assert corners.std(axis=0).min() > 50
    assert images.std(axis=(1, 2)).max(axis=1).min() > 4  # of 255: none is blank
    assert np.median(images.std(axis=(1, 2)).max(axis=1)) > 30


def matrices(maps):
    """Return the linear parts as real 2x2 matrices: the images of 1 and of i under z → alpha z + beta conj(z)."""
    alpha, beta = maps[..., 0, :], maps[..., 1, :]
    columns = [alpha + beta, 1j * alpha - 1j * beta]
    return np.stack([np.stack([z.real for z in columns], -1), np.stack([z.imag for z in columns], -1)], -2)


def test_systems_contract_and_are_neither_simple_nor_formless():
    maps = fractals.systems().maps
    values = np.linalg.svd(matrices(maps), compute_uv=False)
    assert values.max() < 1
    number = (values[..., 0] > 0).sum(axis=1)
    assert set(number) == set(range(2, fractals.MAPS + 1))
    complexity = (values[..., 0] + 2 * values[..., 1]).sum(axis=1)  # Anderson & Farrell's sigma-factor
    assert (complexity > (5 + number) / 2 - 1e-4).all()
    assert (complexity < (6 + number) / 2 + 1e-4).all()
    for klass in range(0, CLASSES, 10):
        varied = fractals.vary(np.random.default_rng(klass), maps[klass], 0.15)
        assert np.linalg.svd(matrices(varied), compute_uv=False).max() < 1
        assert not np.array_equal(varied, maps[klass])
        assert ((varied == 0) == (maps[klass] == 0)).all()


def test_orbits_fill_the_frame_as_asked():
    low, high = fractals.FILLING
    for orbit in fractals.systems().orbits:
        corner, span = (orbit.real.min(), orbit.imag.min()), max(np.ptp(orbit.real), np.ptp(orbit.imag))
        frame = [(start, start + span) for start in corner]
        visits, *_ = np.histogram2d(orbit.real, orbit.imag, bins=SIZE, range=frame)
        assert low - 0.02 <= (visits > 0).mean() <= high + 0.02


def test_orbits_are_on_the_attractor():
    """Check that every map takes an attractor into itself: it is the union of its own images (Hutchinson)."""
    systems = fractals.systems()
    for klass in range(0, CLASSES, 50):
        orbit, maps = systems.orbits[klass], systems.maps[klass]
        tree, span = cKDTree(np.c_[orbit.real, orbit.imag]), max(np.ptp(orbit.real), np.ptp(orbit.imag))
        for (alpha, beta, tau), count in zip(maps.T, np.diff(systems.cuts[klass]), strict=True):
            if count:
                image = alpha * orbit + beta * orbit.conj() + tau
                distance, _ = tree.query(np.c_[image.real, image.imag])
                assert np.median(distance) < 0.02 * span


def test_atoms_have_the_frequencies_and_amplitudes_of_their_class():
    classes = atoms.parameters()
    assert len(set(classes)) == CLASSES
    for (n1, n2), (lambda1, lambda2), vertices in classes:
        spectrum = np.fft.rfft(atoms.radii((n1, n2), (lambda1, lambda2), vertices)) / vertices
        expected = np.zeros_like(spectrum)
        expected[[0, n1, n2]] = 1, lambda1 / 2j, lambda2 / 2j
        np.testing.assert_allclose(spectrum, expected, atol=1e-12)
    third = atoms.radii((1, 4), (0.3, 0.1), 12)[1]  # θ = 30°
    assert third == pytest.approx(1 + 0.3 * 0.5 + 0.1 * np.sqrt(3) / 2)


@pytest.mark.parametrize("klass", [0, 7, 100, 333])
def test_distances_to_a_contour(klass):
    radii = 20 * atoms.radii(*atoms.parameters()[klass]).astype(np.float32)
    theta = 2 * np.pi * np.arange(len(radii)) / len(radii)
    corners = np.c_[radii * np.cos(theta), radii * np.sin(theta)]
    x, y = np.random.default_rng(klass).uniform(-32, 32, (2, 4000)).astype(np.float32)
    signed, away = (values[0] for values in atoms.distances(radii[None], x, y))
    assert ((signed < 0) == Polygon(corners).contains_points(np.c_[x, y])).mean() > 0.999
    steps = np.linspace(0, 1, 400, endpoint=False)[:, None, None]
    contour = ((1 - steps) * corners + steps * np.roll(corners, -1, axis=0)).reshape(-1, 2)
    exact, _ = cKDTree(contour).query(np.c_[x, y])
    assert np.percentile(np.abs(away - exact)[exact < 1.5], [50, 75]) == pytest.approx([0, 0], abs=0.3)
    assert away[exact > 6].min() > 3


@pytest.mark.parametrize("name", ["fractals", "atoms", "formulas"])
def test_ingest(tmp_path, name):
    dataset = open_dataset(name)
    count = 4 * INSTANCES
    few = [source for source in itertools.islice(dataset.sources(), count) if int(source.filename[-6:-4]) % 10 > 6]
    summary = ingest(dataclasses.replace(dataset, sources=lambda: iter(few), count=len(few)), tmp_path)
    assert summary.labels == dataset.labels[:4]
    assert not summary.excluded
    assert {split: summary.total(split) for split in summary.counts} == {"train": 84, "val": 8, "test": 4}
    assert summary.median_side == SIZE
    encoded = few[0].read()
    np.testing.assert_array_equal(decode_image(encoded), np.asarray(Image.open(io.BytesIO(encoded))))
