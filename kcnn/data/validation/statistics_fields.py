"""Fields of TensorFlow Metadata's statistics, read in one place for the schema and the anomalies."""

from tensorflow_metadata.proto.v0 import statistics_pb2

LOG_HISTOGRAM = "log_histogram"  # the custom statistic with buckets that are the same in every split


def features_by_name(
    statistics: statistics_pb2.DatasetFeatureStatistics,
) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    """Return feature name → its statistics."""
    return {feature.path.step[0] if feature.path.step else feature.name: feature for feature in statistics.features}


def common_statistics(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    """Return the counts of present and missing values, which each type of statistics holds at another place."""
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def value_counts(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, int]:
    """Return value → how often it occurs; an empty dict for numbers, and for strings that are only counted."""
    return {bucket.label: int(bucket.sample_count) for bucket in feature.string_stats.rank_histogram.buckets}


def log_histogram(feature: statistics_pb2.FeatureNameStatistics) -> dict[float, float]:
    """Return the custom statistic `LOG_HISTOGRAM`: lower end of a bucket → images in it."""
    (histogram,) = [custom.histogram for custom in feature.custom_stats if custom.name == LOG_HISTOGRAM]
    return {bucket.low_value: bucket.sample_count for bucket in histogram.buckets}
