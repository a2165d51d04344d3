"""One export for all tests of serving."""

import pytest
from tiny_classifier import LABELS, SPEC, picture, tiny_model

from kcnn.serving.export.classifier import export_classifier


@pytest.fixture(scope="session")
def model():
    return tiny_model()


@pytest.fixture(scope="session")
def export_dir(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved_models") / "tiny" / "1"
    export_classifier(model, directory, LABELS, SPEC)
    return directory


@pytest.fixture(scope="session")
def pictures():
    return [
        picture("JPEG", (60, 40), 1),
        picture("PNG", (33, 71), 2),
        picture("PNG", (32, 24), 3),
        picture("GIF", (20, 20), 4),
        picture("BMP", (64, 9), 5),
        picture("JPEG", (300, 200), 6),
    ]
