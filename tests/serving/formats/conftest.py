"""One version with every format for all tests of them."""

import numpy as np
import pytest
import tensorflow as tf
from small_export import LABELS, SPEC, TEMPERATURE, pictures, small_network

import kcnn
from kcnn.data.input_pipeline.transform import preprocess_batch
from kcnn.serving.formats.catalogue import FORMATS


@pytest.fixture(scope="session")
def network():
    return small_network()


@pytest.fixture(scope="session")
def exported(network, tmp_path_factory):
    """Export a version with every format; give it and what `export_classifier` returned."""
    version = tmp_path_factory.mktemp("formats") / "1"
    metadata = kcnn.export_classifier(
        network,
        version,
        LABELS,
        SPEC,
        formats=list(reversed(FORMATS)),
        temperature=TEMPERATURE,
        calibration=[b"no image", *pictures(40, seed=1)],
        run={"note": "<é>\n"},
    )
    return version, metadata


@pytest.fixture(scope="session")
def images():
    """Return uint8 [12, h, w, 3]."""
    pixels = preprocess_batch(tf.constant(pictures(12, seed=2)), SPEC).numpy()
    return np.rint(pixels).astype(np.uint8)
