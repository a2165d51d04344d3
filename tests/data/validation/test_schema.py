"""Schema and anomalies: what is found, and that chance finds nothing; no TensorFlow."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import fisher_exact
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from kcnn.data.validation import schema, statistics
from kcnn.errors import UserError

INFO = anomalies_pb2.AnomalyInfo
CLASSES = ("cat", "dog", "emu")


def rows(count, seed=0, *, classes=CLASSES, shares=None, size=400.0, spread=0.5, bright=120.0, formats=(b"JPEG",)):
    """Measured photos: log-normal sizes, normal brightness."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(classes), count, p=shares)
    widths, heights = (np.exp(rng.normal(np.log(size), spread, count)).astype(int) + 1 for _ in range(2))
    brightness = rng.normal(bright, 30, count).clip(0, 255)
    sharpness = np.exp(rng.normal(6, 1, count))
    return [
        {
            "image/class/label": str(label).encode(),
            "image/class/text": classes[label].encode(),
            "image/encoded": int(width * height // 8) + 1,
            "image/filename": b"%d.jpg" % index,
            "image/format": formats[index % len(formats)],
            "image/height": int(height),
            "image/key/sha256": b"%064x" % index,
            "image/width": int(width),
            "image/aspect": round(width / height * 2**16),
            "image/brightness": round(light * 2**16),
            "image/bytes": int(width * height // 8) + 1,
            "image/channels": 3,
            "image/sharpness": round(sharp * 2**16),
        }
        for index, (label, width, height, light, sharp) in enumerate(
            zip(labels, widths, heights, brightness, sharpness, strict=True)
        )
    ]


def of(measured, name="val"):
    return statistics.to_proto(statistics.Statistics.of(measured), name).datasets[0]


def reasons(anomalies):
    """feature → the reasons' types."""
    return {name: [reason.type for reason in info.reason] for name, info in anomalies.anomaly_info.items()}


TRAIN = of(rows(2000), "train")
SCHEMA = schema.infer(TRAIN)
VAL = rows(400, seed=1)


def edited(**changes):
    copy = schema_pb2.Schema()
    copy.CopyFrom(SCHEMA)
    features = {feature.name: feature for feature in copy.feature}
    for name, change in changes.items():
        change(features[f"image/{name}"])
    return copy


def test_what_is_inferred(tmp_path):
    features = {feature.name: feature for feature in SCHEMA.feature}
    domains = {domain.name: list(domain.value) for domain in SCHEMA.string_domain}
    assert domains == {"image/class/text": list(CLASSES), "image/format": ["JPEG"]}
    assert features["image/class/text"].domain == "image/class/text"
    assert (features["image/class/label"].int_domain.max, features["image/class/label"].int_domain.is_categorical) == (
        2,
        True,
    )
    height = next(feature.num_stats for feature in TRAIN.features if feature.path.step == ["image/height"])
    domain = features["image/height"].int_domain
    assert domain.min <= height.min / 2
    assert domain.max >= height.max * 2
    assert features["image/brightness"].float_domain.min >= 0
    assert features["image/brightness"].float_domain.max <= 255
    required = {name for name, feature in features.items() if feature.presence.min_fraction == 1}
    derived = {name for name, f in features.items() if f.lifecycle_stage == schema_pb2.VALIDATION_DERIVED}
    assert required | derived == set(features)
    assert not required & derived
    schema.write(SCHEMA, tmp_path / "schema.pbtxt")
    assert schema.read(tmp_path / "schema.pbtxt") == SCHEMA


def test_the_training_split_fulfils_its_schema_and_so_do_others_of_its_kind():
    own = schema.validate(TRAIN, SCHEMA)
    assert not own.anomaly_info
    assert not own.drift_skew_info
    assert own.baseline == SCHEMA
    other = schema.validate(of(VAL), SCHEMA, train=TRAIN)
    assert not schema.lines(other, "val")
    compared = {info.path.step[0]: info.skew_measurements for info in other.drift_skew_info}
    assert len(compared) == 9
    assert all(measured.value <= measured.threshold for (measured,) in compared.values())


def replaced(measured, count, **changes):
    """The first `count` rows changed."""
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
    found = schema.validate(of(val), SCHEMA, train=TRAIN)
    assert reason in reasons(found)[f"image/{feature}"]
    assert any(line in text for text in schema.lines(found, "val"))
    assert found.anomaly_info[f"image/{feature}"].path.step == [f"image/{feature}"]
    assert found.anomaly_info[f"image/{feature}"].severity in (INFO.WARNING, INFO.ERROR)
    assert anomalies_pb2.Anomalies.FromString(found.SerializeToString()) == found


def test_each_fault_is_found_alone():
    found = schema.validate(of(replaced(VAL, 1, format=b"WEBP")), SCHEMA, train=TRAIN)
    assert reasons(found) == {"image/format": [INFO.ENUM_TYPE_UNEXPECTED_STRING_VALUES]}
    info = found.anomaly_info["image/format"]
    assert (info.short_description, info.severity) == ("Unexpected string values", INFO.ERROR)


def test_features_that_come_and_go():
    def rename(feature):
        feature.name = "image/other"

    found = schema.validate(of(VAL), edited(format=rename), train=TRAIN)
    assert reasons(found) == {
        "image/other": [INFO.SCHEMA_MISSING_COLUMN],
        "image/format": [INFO.SCHEMA_NEW_COLUMN],
    }

    def retype(feature):
        feature.type = schema_pb2.BYTES

    found = schema.validate(TRAIN, edited(height=retype))
    assert reasons(found) == {"image/height": [INFO.UNEXPECTED_DATA_TYPE]}

    def deprecate(feature):
        feature.lifecycle_stage = schema_pb2.DEPRECATED

    assert not schema.validate(of(replaced(VAL, 1, height=10**6)), edited(height=deprecate), train=TRAIN).anomaly_info


def test_the_schema_has_the_last_word():
    skewed = of(rows(400, seed=1, size=800))
    assert "image/height" in reasons(schema.validate(skewed, SCHEMA, train=TRAIN))
    for change in (
        lambda feature: feature.ClearField("skew_comparator"),
        lambda feature: setattr(feature.skew_comparator.jensen_shannon_divergence, "threshold", 0.9),
    ):
        found = schema.validate(skewed, edited(height=change), train=TRAIN)
        assert "image/height" not in reasons(found)
    webp = of(replaced(VAL, 2, format=b"WEBP"))
    lenient = edited(format=lambda feature: setattr(feature.distribution_constraints, "min_domain_mass", 0.99))
    assert not schema.validate(webp, lenient, train=TRAIN).anomaly_info

    wished = schema_pb2.Schema()
    wished.CopyFrom(SCHEMA)
    next(domain for domain in wished.string_domain if domain.name == schema.CLASS).value.append("yak")
    (line,) = schema.lines(schema.validate(TRAIN, wished), "train")
    assert line == "train: image/class/text: no image of 'yak', which the schema has"
    assert not schema.validate(of(VAL), wished, train=TRAIN).anomaly_info


def test_a_schema_that_contradicts_itself_is_an_anomaly():
    def limit(feature):
        feature.int_domain.max = 3

    assert reasons(schema.validate(TRAIN, edited(filename=limit))) == {"image/filename": [INFO.DOMAIN_INVALID_FOR_TYPE]}
    elsewhere = edited(format=lambda feature: setattr(feature, "domain", "formats"))
    assert reasons(schema.validate(TRAIN, elsewhere)) == {"image/format": [INFO.INVALID_SCHEMA_SPECIFICATION]}


def test_drift_against_an_earlier_run():
    assert not schema.validate(TRAIN, SCHEMA, previous=of(rows(2000, seed=5))).anomaly_info
    before = of(rows(2000, seed=5, classes=("cat", "dog", "yak")))
    found = schema.validate(TRAIN, SCHEMA, previous=before)
    assert reasons(found)[schema.CLASS][:2] == [
        INFO.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
        INFO.FEATURE_TYPE_LOW_UNIQUE,
    ]
    lines = schema.lines(found, "train")
    assert any("'emu' (" in line and "not in the previous run" in line for line in lines)
    assert any("no image of 'yak', which the previous run has" in line for line in lines)
    darker = schema.validate(TRAIN, SCHEMA, previous=of(rows(2000, seed=5, bright=60)))
    assert reasons(darker) == {"image/brightness": [INFO.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH]}
    (info,) = [info for info in darker.drift_skew_info if info.path.step[0] == "image/brightness"]
    (measured,) = info.drift_measurements
    assert measured.type == anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE
    assert measured.value > measured.threshold > schema.NUMBERS_THRESHOLD


def test_chance_raises_no_alarms():
    """Splits of one population, of all sizes and shapes: hardly a run in a hundred may warn."""
    rng = np.random.default_rng(0)
    warned = []
    for seed in range(150):
        count = int(np.exp(rng.uniform(np.log(30), np.log(3000))))
        classes = [f"class {index}" for index in range(rng.integers(2, 21))]
        shape = {"shares": rng.dirichlet(np.ones(len(classes))), "spread": rng.uniform(0, 0.7)}
        measured = rows(count, seed, classes=classes, **shape)
        at = rng.uniform(size=count)
        parts = [[row for row, u in zip(measured, at, strict=True) if a <= u < b] for a, b in ((0.3, 1), (0, 0.15))]
        # ExampleGen sees to it that every class has a training image.
        trained = {row["image/class/text"] for row in parts[0]}
        train, val = of(parts[0]), of([row for row in parts[1] if row["image/class/text"] in trained])
        if val.num_examples:
            warned += schema.lines(schema.validate(val, schema.infer(train), train=train), f"{seed}")
    assert len(warned) <= 2, warned


def test_chance_alone_stays_within_its_bound():
    """With no threshold at all, and one sample in a hundred allowed above the bound."""
    rng = np.random.default_rng(0)
    above = np.zeros(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "FALSE_ALARMS", 0.01)
        for _ in range(2000):
            shares = rng.dirichlet(np.ones(rng.integers(2, 40)))
            here, there = (
                {index: int(count) for index, count in enumerate(rng.multinomial(n, shares)) if count}
                for n in rng.integers(2, 1000, 2)
            )
            _, distance, chance = schema.labels_distance(here, there)
            above[0] += distance > chance
            distance, chance = schema.numbers_distance(here, there)
            above[1] += distance > chance
    assert (above <= [20, 45]).all()  # the second is approximate: see the function


def test_a_gross_difference_of_small_samples_is_seen():
    here, there = {"cat": 60, "dog": 10}, {"cat": 120, "dog": 120}
    assert fisher_exact([[60, 10], [120, 120]]).pvalue < 1e-7
    _, distance, chance = schema.labels_distance(here, there)
    assert distance == pytest.approx(60 / 70 - 1 / 2)
    assert distance > chance + 0.05


def test_distances():
    rng = np.random.default_rng(0)
    p, q = rng.integers(100, 1000, (2, 30))
    here, there = ({float(i): int(count) for i, count in enumerate(sample)} for sample in (p, q))
    divergence, _ = schema.numbers_distance(here, there)
    assert divergence == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    value, distance, _ = schema.labels_distance(here, there)
    assert distance == pytest.approx(np.abs(p / p.sum() - q / q.sum())[int(value)])
    assert schema.numbers_distance({0.0: 10}, {5.0: 1}) == (0, 0)  # too few to tell anything
    apart, _ = schema.numbers_distance({0.0: 100}, {5.0: 100})
    assert apart == pytest.approx(1)


def test_an_empty_split_is_said():
    found = schema.validate(of([], "test"), SCHEMA, train=TRAIN)
    assert found.data_missing
    assert schema.lines(found, "test") == ["test: no examples"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("feature { nam", "not a schema.pbtxt: "), ("\udcff", "not a schema.pbtxt")],
)
def test_unreadable_schemas(tmp_path, content, message):
    path = tmp_path / "schema.pbtxt"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        schema.read(path)
