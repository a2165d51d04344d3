"""The schema: inferred from a training split, written and read."""

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from kcnn.data.validation.schema import infer_schema, read_schema, write_schema
from kcnn.errors import UserError
from tests.data.validation.measured_photos import CLASSES, proto_of, rows
from tests.endless_files import EMPTY, endless_files, time_limit

TRAIN = proto_of(rows(2000), "train")

SCHEMA = infer_schema(TRAIN)


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
    write_schema(SCHEMA, tmp_path / "schema.pbtxt")
    assert read_schema(tmp_path / "schema.pbtxt") == SCHEMA


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("feature { nam", "not a schema.pbtxt: "),
        ("\udcff", "not a schema.pbtxt"),
        ('feature { name: "a" struct_domain { ' * 2000 + "} }" * 2000, "nested more than 100 deep"),
    ],
)
def test_unreadable_schemas(tmp_path, content, message):
    path = tmp_path / "schema.pbtxt"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        read_schema(path)


def test_a_schema_that_never_ends(tmp_path):
    for name in set(endless_files(tmp_path)) - {*EMPTY}:
        with time_limit(), pytest.raises(UserError, match="not a regular file"):
            read_schema(tmp_path / name)
