"""Statistics as TensorFlow Metadata's proto, which TensorFlow Data Validation and its tools read."""

import itertools
from collections import Counter

import numpy as np
from tensorflow_metadata.proto.v0 import derived_feature_pb2, statistics_pb2

from kcnn.data.validation.measures import Feature, features_of
from kcnn.data.validation.sketches import (
    COARSE_BITS,
    FINE_BITS,
    Distinct,
    Numbers,
    Strings,
    Values,
    bin_index,
    bin_range,
)
from kcnn.data.validation.statistics import Statistics
from kcnn.data.validation.statistics_fields import LOG_HISTOGRAM

_BUCKETS = 10  # of the histograms, as many as TensorFlow Data Validation makes

_Type = statistics_pb2.FeatureNameStatistics


def statistics_to_proto(statistics: Statistics, name: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Convert statistics to the proto that TensorFlow Data Validation writes, for one data set called `name`.

    Numbers carry one more histogram, the custom statistic `LOG_HISTOGRAM`. Its edges do not depend on the data: there
    are eight buckets from a power of two to the next, so that two splits can be compared bucket by bucket.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = result.datasets.add(name=name, num_examples=statistics.examples)
    for feature in features_of(statistics.features.keys()):
        part = statistics.features[feature.name]
        if isinstance(part, Strings):
            part = part.values or part.distinct
        proto = dataset.features.add(type=feature.type)
        proto.path.step.append(feature.name)
        common = _common_proto(part.count, statistics.examples)
        if isinstance(part, Values):
            proto.string_stats.CopyFrom(_values_proto(part))
            proto.string_stats.common_stats.CopyFrom(common)
        elif isinstance(part, Distinct):
            proto.string_stats.unique = part.unique
            proto.string_stats.avg_length = part.length / max(1, part.count)
            proto.string_stats.common_stats.CopyFrom(common)
        elif feature.type == _Type.BYTES:
            proto.bytes_stats.common_stats.CopyFrom(common)
            if part.count:
                proto.bytes_stats.avg_num_bytes = part.mean
                proto.bytes_stats.min_num_bytes = part.minimum
                proto.bytes_stats.max_num_bytes = proto.bytes_stats.max_num_bytes_int = part.maximum
        else:
            proto.num_stats.common_stats.CopyFrom(common)
            if part.count:
                proto.num_stats.MergeFrom(_numbers_proto(part, feature.unit))
                proto.custom_stats.add(name=LOG_HISTOGRAM).histogram.CopyFrom(_log_histogram(part, feature.unit))
        if feature.derived:
            proto.validation_derived_source.CopyFrom(_derived_source(feature))
    return result


def _derived_source(feature: Feature) -> derived_feature_pb2.DerivedFeatureSource:
    """Return what marks a feature as derived from the image, in statistics and schema."""
    source = derived_feature_pb2.DerivedFeatureSource(deriver_name="kcnn", description=feature.derived)
    source.source_path.add().step.append("image/encoded")
    return source


def _common_proto(count: int, examples: int) -> statistics_pb2.CommonStatistics:
    common = statistics_pb2.CommonStatistics(num_non_missing=count, num_missing=examples - count, tot_num_values=count)
    if count:
        common.min_num_values = common.max_num_values = 1
        common.avg_num_values = 1.0
        common.num_values_histogram.type = statistics_pb2.Histogram.QUANTILES
        for _ in range(_BUCKETS):
            common.num_values_histogram.buckets.add(low_value=1, high_value=1, sample_count=count / _BUCKETS)
    return common


def _values_proto(part: Values) -> statistics_pb2.StringStatistics:
    """Convert counted values; the rank histogram has them all, where TensorFlow Data Validation keeps a thousand."""
    proto = statistics_pb2.StringStatistics(unique=len(part.counts))
    if part.counts:
        proto.avg_length = sum(len(value) * count for value, count in part.counts.items()) / part.count
    ranked = sorted(part.counts.items(), key=lambda item: (-item[1], item[0]))
    for rank, (value, count) in enumerate(ranked):
        text = value.decode("utf-8", "backslashreplace")
        proto.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=text, sample_count=count)
        if rank < 2 * _BUCKETS:
            proto.top_values.add(value=text, frequency=count)
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            proto.invalid_utf8_count += count
    return proto


def _numbers_proto(part: Numbers, unit: float) -> statistics_pb2.NumericStatistics:
    median = part.values_at([(part.count - 1) // 2, part.count // 2]).mean()
    proto = statistics_pb2.NumericStatistics(
        mean=part.mean * unit,
        std_dev=part.deviation * unit,
        num_zeros=part.bins.get(0, 0),
        min=part.minimum * unit,
        median=median * unit,
        max=part.maximum * unit,
    )
    values, counts = part.representatives
    standard = proto.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    if part.minimum == part.maximum:
        standard.buckets.add(low_value=proto.min, high_value=proto.max, sample_count=part.count)
    else:
        sizes, edges = np.histogram(values, _BUCKETS, (part.minimum, part.maximum), weights=counts)
        for low, high, size in zip(edges[:-1], edges[1:], sizes, strict=True):
            standard.buckets.add(low_value=low * unit, high_value=high * unit, sample_count=size)
    ranks = [step * (part.count - 1) // _BUCKETS for step in range(_BUCKETS + 1)]
    quantiles = proto.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for low, high in itertools.pairwise(part.values_at(ranks) * unit):
        quantiles.buckets.add(low_value=low, high_value=high, sample_count=part.count / _BUCKETS)
    return proto


def _log_histogram(part: Numbers, unit: float) -> statistics_pb2.Histogram:
    coarse: Counter[int] = Counter()
    for index, count in part.bins.items():
        coarse[bin_index(bin_range(index, FINE_BITS)[0], COARSE_BITS)] += count
    proto = statistics_pb2.Histogram(type=statistics_pb2.Histogram.STANDARD)
    for index in sorted(coarse):
        low, high = bin_range(index, COARSE_BITS)
        proto.buckets.add(low_value=low * unit, high_value=high * unit, sample_count=coarse[index])
    return proto
