"""The schema of a data set: inferred from its training split, and kept as a text file that people may edit."""

import math
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kcnn.data.records import COLUMN
from kcnn.data.validation.statistics_fields import common_statistics, value_counts
from kcnn.documents import parse_prototext, read_document
from kcnn.errors import UserError

# A twentieth of the images in another class: accuracy may differ by that much at most, from this cause.
LABELS_THRESHOLD = 0.05
# Bits, of 1: two normal distributions whose means are three quarters of a standard deviation apart.
NUMBERS_THRESHOLD = 0.1
# A numeric range goes on beyond that of n training images by 1/2 + 10/n of its length: more than five standard
# deviations from a normal distribution's mean, as a rule, so that other samples' extremes lie within. Lengths of
# proportional features are measured in logarithms, and their range reaches to the double and the half at least.
_WIDENING, _WIDENING_OF_FEW, _LEAST_FACTOR = 0.5, 10.0, 2.0
_LINEAR = {"image/brightness": (0.0, 255.0)}  # widened by differences, within what is possible

_Types = statistics_pb2.FeatureNameStatistics
SCHEMA_TYPES = {
    _Types.INT: schema_pb2.INT,
    _Types.FLOAT: schema_pb2.FLOAT,
    _Types.STRING: schema_pb2.BYTES,
    _Types.BYTES: schema_pb2.BYTES,
}


def infer_schema(train: statistics_pb2.DatasetFeatureStatistics) -> schema_pb2.Schema:
    """Infer the schema that the training split fulfils, with room for other samples of the same kind.

    String domains hold the values that occur. Ranges are widened (`_WIDENING`). A feature that every example has is
    required. Derived features are optional, since the examples do not hold them. A label column may hold anything.

    Args:
        train: statistics of the training split.
    """
    schema = schema_pb2.Schema()
    for statistics in train.features:
        name = statistics.path.step[0]
        feature = schema.feature.add(name=name, type=SCHEMA_TYPES[statistics.type])
        common = common_statistics(statistics)
        if statistics.HasField("validation_derived_source"):
            feature.lifecycle_stage = schema_pb2.VALIDATION_DERIVED
            feature.validation_derived_source.CopyFrom(statistics.validation_derived_source)
        else:
            feature.presence.min_count = min(1, common.num_non_missing)
            if not common.num_missing and common.num_non_missing:
                feature.presence.min_fraction = 1.0
        if not common.num_non_missing:
            continue
        feature.value_count.min = common.min_num_values
        feature.value_count.max = common.max_num_values
        _add_domain(schema, feature, statistics)
    return schema


def write_schema(schema: schema_pb2.Schema, path: Path) -> None:
    """Write a schema to a text file, schema.pbtxt."""
    path.write_text(text_format.MessageToString(schema, as_utf8=True), encoding="utf-8")


def read_schema(path: Path) -> schema_pb2.Schema:
    """Read a schema from a text file, schema.pbtxt.

    Raises:
        UserError: the file is missing, cannot be read, or is not the text of a Schema.
    """
    try:
        return parse_prototext(read_document(path), schema_pb2.Schema())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; expected a schema.pbtxt") from None
    except ValueError as error:  # a NUL in the path, no UTF-8, no Schema
        raise UserError(f"{path}: not a schema.pbtxt: {error}") from None


def _add_domain(
    schema: schema_pb2.Schema, feature: schema_pb2.Feature, statistics: statistics_pb2.FeatureNameStatistics
) -> None:
    """Add the domain of a feature, and the thresholds of its comparators."""
    name, counts = feature.name, value_counts(statistics)
    if statistics.type == _Types.BYTES:
        feature.image_domain.SetInParent()
    elif statistics.type == _Types.INT and counts:  # a class index
        feature.int_domain.CopyFrom(
            schema_pb2.IntDomain(name=name, min=0, max=max(map(int, counts)), is_categorical=True)
        )
    elif counts and not name.startswith(COLUMN):
        feature.domain = name
        schema.string_domain.add(name=name, value=sorted(counts))
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            comparator.infinity_norm.threshold = LABELS_THRESHOLD
    elif statistics.HasField("num_stats"):
        low, high = _widened_range(name, statistics.num_stats)
        if statistics.type == _Types.INT:
            feature.int_domain.CopyFrom(schema_pb2.IntDomain(name=name, min=math.floor(low), max=math.ceil(high)))
        else:
            feature.float_domain.CopyFrom(schema_pb2.FloatDomain(name=name, min=low, max=high))
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            comparator.jensen_shannon_divergence.threshold = NUMBERS_THRESHOLD


def _widened_range(name: str, found: statistics_pb2.NumericStatistics) -> tuple[float, float]:
    low, high, share = found.min, found.max, _WIDENING + _WIDENING_OF_FEW / found.common_stats.num_non_missing
    if name in _LINEAR:
        least, most = _LINEAR[name]
        more = share * (high - low)
        return max(least, low - more), min(most, high + more)
    factor = max(_LEAST_FACTOR, (high / low) ** share) if low > 0 else _LEAST_FACTOR
    return low / factor, min(high * factor, 2.0**53)
