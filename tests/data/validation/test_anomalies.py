"""Anomalies: every departure is found, and chance raises no alarm; no TensorFlow."""

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from kcnn.data.validation.anomalies import CLASS, anomaly_lines, find_anomalies
from kcnn.data.validation.schema import NUMBERS_THRESHOLD, infer_schema
from tests.data.validation.measured_photos import CLASSES, proto_of, rows

INFO = anomalies_pb2.AnomalyInfo

TRAIN = proto_of(rows(2000), "train")

SCHEMA = infer_schema(TRAIN)

VAL = rows(400, seed=1)


def reasons(anomalies):
    """Return feature → the types of its reasons."""
    return {name: [reason.type for reason in info.reason] for name, info in anomalies.anomaly_info.items()}


def edited(**changes):
    copy = schema_pb2.Schema()
    copy.CopyFrom(SCHEMA)
    features = {feature.name: feature for feature in copy.feature}
    for name, change in changes.items():
        change(features[f"image/{name}"])
    return copy


def test_the_training_split_fulfils_its_schema_and_so_do_others_of_its_kind():
    own = find_anomalies(TRAIN, SCHEMA)
    assert not own.anomaly_info
    assert not own.drift_skew_info
    assert own.baseline == SCHEMA
    other = find_anomalies(proto_of(VAL), SCHEMA, train=TRAIN)
    assert not anomaly_lines(other, "val")
    compared = {info.path.step[0]: info.skew_measurements for info in other.drift_skew_info}
    assert len(compared) == 9
    assert all(measured.value <= measured.threshold for (measured,) in compared.values())


def replaced(measured, count, **changes):
    """Return the rows with the first `count` changed."""
    changes = {f"image/{name.replace('_', '/')}": value for name, value in changes.items()}
    return [{**row, **changes} if index < count else row for index, row in enumerate(measured)]


@pytest.mark.parametrize(
    ("val", "feature", "reason", "line"),
    [
        (
            replaced(VAL, 2, class_text=b"gnu"),
            "class/text",
            INFO.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
            "val: image/class/text: 'gnu' (2 images) not in the schema",
        ),
        (
            replaced(VAL, 1, format=b"WEBP"),
            "format",
            INFO.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
            "val: image/format: 'WEBP' (1 image) not in the schema",
        ),
        (replaced(VAL, 1, class_label=b"3"), "class/label", INFO.INT_TYPE_BIG_INT, "up to 3, above the 2 that"),
        (replaced(VAL, 1, height=100_000), "height", INFO.INT_TYPE_BIG_INT, "up to 100000, above"),
        (replaced(VAL, 1, width=2), "width", INFO.INT_TYPE_SMALL_INT, "down to 2, below"),
        (replaced(VAL, 1, aspect=300 * 2**16), "aspect", INFO.FLOAT_TYPE_BIG_FLOAT, "up to 300, above"),
        (replaced(VAL, 1, sharpness=1), "sharpness", INFO.FLOAT_TYPE_SMALL_FLOAT, "down to 1.526e-05, below"),
        (
            rows(400, seed=1, classes=CLASSES[:2]),
            "class/text",
            INFO.FEATURE_TYPE_LOW_UNIQUE,
            "no image of 'emu', which train has",
        ),
        (
            rows(400, seed=1, shares=(0.6, 0.2, 0.2)),
            "class/text",
            INFO.COMPARATOR_L_INFTY_HIGH,
            "'cat' has 6",
        ),
        (
            rows(400, seed=1, size=800),
            "height",
            INFO.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH,
            "distributed unlike train: median ",
        ),
        (
            rows(100, seed=1, bright=170),
            "brightness",
            INFO.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH,
            "distributed unlike train: median 1",
        ),
        (
            [{name: value for name, value in row.items() if name != "image/height"} for row in VAL],
            "height",
            INFO.FEATURE_TYPE_LOW_FRACTION_PRESENT,
            "missing in 400 of 400 examples",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_departs_is_found(val, feature, reason, line):
    found = find_anomalies(proto_of(val), SCHEMA, train=TRAIN)
    assert reason in reasons(found)[f"image/{feature}"]
    assert any(line in text for text in anomaly_lines(found, "val"))
    assert found.anomaly_info[f"image/{feature}"].path.step == [f"image/{feature}"]
    assert found.anomaly_info[f"image/{feature}"].severity in (INFO.WARNING, INFO.ERROR)
    assert anomalies_pb2.Anomalies.FromString(found.SerializeToString()) == found


def test_each_fault_is_found_alone():
    found = find_anomalies(proto_of(replaced(VAL, 1, format=b"WEBP")), SCHEMA, train=TRAIN)
    assert reasons(found) == {"image/format": [INFO.ENUM_TYPE_UNEXPECTED_STRING_VALUES]}
    info = found.anomaly_info["image/format"]
    assert (info.short_description, info.severity) == ("Unexpected string values", INFO.ERROR)


def test_features_that_come_and_go():
    def rename(feature):
        feature.name = "image/other"

    found = find_anomalies(proto_of(VAL), edited(format=rename), train=TRAIN)
    assert reasons(found) == {
        "image/other": [INFO.SCHEMA_MISSING_COLUMN],
        "image/format": [INFO.SCHEMA_NEW_COLUMN],
    }

    def retype(feature):
        feature.type = schema_pb2.BYTES

    found = find_anomalies(TRAIN, edited(height=retype))
    assert reasons(found) == {"image/height": [INFO.UNEXPECTED_DATA_TYPE]}

    def deprecate(feature):
        feature.lifecycle_stage = schema_pb2.DEPRECATED

    assert not find_anomalies(
        proto_of(replaced(VAL, 1, height=10**6)), edited(height=deprecate), train=TRAIN
    ).anomaly_info


def test_the_schema_has_the_last_word():
    skewed = proto_of(rows(400, seed=1, size=800))
    assert "image/height" in reasons(find_anomalies(skewed, SCHEMA, train=TRAIN))
    for change in (
        lambda feature: feature.ClearField("skew_comparator"),
        lambda feature: setattr(feature.skew_comparator.jensen_shannon_divergence, "threshold", 0.9),
    ):
        found = find_anomalies(skewed, edited(height=change), train=TRAIN)
        assert "image/height" not in reasons(found)
    webp = proto_of(replaced(VAL, 2, format=b"WEBP"))
    lenient = edited(format=lambda feature: setattr(feature.distribution_constraints, "min_domain_mass", 0.99))
    assert not find_anomalies(webp, lenient, train=TRAIN).anomaly_info

    wished = schema_pb2.Schema()
    wished.CopyFrom(SCHEMA)
    next(domain for domain in wished.string_domain if domain.name == CLASS).value.append("yak")
    (line,) = anomaly_lines(find_anomalies(TRAIN, wished), "train")
    assert line == "train: image/class/text: no image of 'yak', which the schema has"
    assert not find_anomalies(proto_of(VAL), wished, train=TRAIN).anomaly_info


def test_a_schema_that_contradicts_itself_is_an_anomaly():
    def limit(feature):
        feature.int_domain.max = 3

    assert reasons(find_anomalies(TRAIN, edited(filename=limit))) == {"image/filename": [INFO.DOMAIN_INVALID_FOR_TYPE]}
    elsewhere = edited(format=lambda feature: setattr(feature, "domain", "formats"))
    assert reasons(find_anomalies(TRAIN, elsewhere)) == {"image/format": [INFO.INVALID_SCHEMA_SPECIFICATION]}


def test_drift_against_an_earlier_run():
    assert not find_anomalies(TRAIN, SCHEMA, previous=proto_of(rows(2000, seed=5))).anomaly_info
    before = proto_of(rows(2000, seed=5, classes=("cat", "dog", "yak")))
    found = find_anomalies(TRAIN, SCHEMA, previous=before)
    assert reasons(found)[CLASS][:2] == [
        INFO.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
        INFO.FEATURE_TYPE_LOW_UNIQUE,
    ]
    lines = anomaly_lines(found, "train")
    assert any("'emu' (" in line and "not in the previous run" in line for line in lines)
    assert any("no image of 'yak', which the previous run has" in line for line in lines)
    darker = find_anomalies(TRAIN, SCHEMA, previous=proto_of(rows(2000, seed=5, bright=60)))
    assert reasons(darker) == {"image/brightness": [INFO.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH]}
    (info,) = [info for info in darker.drift_skew_info if info.path.step[0] == "image/brightness"]
    (measured,) = info.drift_measurements
    assert measured.type == anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE
    assert measured.value > measured.threshold > NUMBERS_THRESHOLD


def test_chance_raises_no_alarms():
    """Compare splits of one population, of all sizes and shapes: hardly a run in a hundred may warn."""
    rng = np.random.default_rng(0)
    warned = []
    for seed in range(150):
        count = int(np.exp(rng.uniform(np.log(30), np.log(3000))))
        classes = [f"class {index}" for index in range(rng.integers(2, 21))]
        shape = {"shares": rng.dirichlet(np.ones(len(classes))), "spread": rng.uniform(0, 0.7)}
        measured = rows(count, seed, classes=classes, **shape)
        at = rng.uniform(size=count)
        parts = [[row for row, u in zip(measured, at, strict=True) if a <= u < b] for a, b in ((0.3, 1), (0, 0.15))]
        # ExampleGen gives every class a training image.
        trained = {row["image/class/text"] for row in parts[0]}
        train, val = proto_of(parts[0]), proto_of([row for row in parts[1] if row["image/class/text"] in trained])
        if val.num_examples:
            warned += anomaly_lines(find_anomalies(val, infer_schema(train), train=train), f"{seed}")
    assert len(warned) <= 2, warned


def test_an_empty_split_is_said():
    found = find_anomalies(proto_of([], "test"), SCHEMA, train=TRAIN)
    assert found.data_missing
    assert anomaly_lines(found, "test") == ["test: no examples"]
