"""Anomalies of a split: departures from the schema, from the training split (skew) or from an earlier run (drift).

TensorFlow Data Validation names and stores anomalies so. Of the schema's means these are checked: type, presence,
string and integer and float domains, `min_domain_mass`, and the comparators `infinity_norm` and
`jensen_shannon_divergence`. A threshold is a difference that the data may have. The difference that chance alone makes
between two samples of these sizes (`distances`) comes on top, so that small splits raise no false alarms.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from kcnn.data.validation.distances import jensen_shannon_divergence, least_missed, linf_distance
from kcnn.data.validation.schema import SCHEMA_TYPES
from kcnn.data.validation.statistics_fields import common_statistics, features_by_name, log_histogram, value_counts

CLASS = "image/class/text"

_Info = anomalies_pb2.AnomalyInfo
_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
_Types = statistics_pb2.FeatureNameStatistics
_DOMAIN_TYPES = {
    "int_domain": _Types.INT,
    "float_domain": _Types.FLOAT,
    "domain": _Types.STRING,
    "string_domain": _Types.STRING,
}
_AGAINST = {"skew": "train", "drift": "the previous run"}
# A model cannot answer rightly here, or the data is not what its name says. All else is a warning.
_ERRORS = {
    _Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
    _Info.SCHEMA_MISSING_COLUMN,
    _Info.UNEXPECTED_DATA_TYPE,
    _Info.FEATURE_TYPE_LOW_FRACTION_PRESENT,
    _Info.INVALID_SCHEMA_SPECIFICATION,
    _Info.DOMAIN_INVALID_FOR_TYPE,
}


@dataclasses.dataclass(frozen=True)
class _Anomaly:
    reason: int  # an AnomalyInfo.Type
    title: str
    description: str


def find_anomalies(
    statistics: statistics_pb2.DatasetFeatureStatistics,
    schema: schema_pb2.Schema,
    *,
    train: statistics_pb2.DatasetFeatureStatistics | None = None,
    previous: statistics_pb2.DatasetFeatureStatistics | None = None,
) -> anomalies_pb2.Anomalies:
    """Find what in a split departs from its schema and from other data.

    Args:
        statistics: statistics of the split.
        schema: the expected values.
        train: statistics of the training split, for another split's skew; None for the training split itself, which
            has to hold every class of the schema.
        previous: statistics of an earlier run's training split, for the training split's drift.

    Returns:
        anomalies by feature; `drift_skew_info` has all that was compared, with the threshold that counted: the
        schema's and chance's share.
    """
    result = anomalies_pb2.Anomalies(anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH)
    result.baseline.CopyFrom(schema)
    if not statistics.num_examples:
        result.data_missing = True
        return result
    of_name = features_by_name(statistics)
    expected = {feature.name: feature for feature in schema.feature if feature.lifecycle_stage != schema_pb2.DEPRECATED}
    domains = {domain.name: domain for domain in schema.string_domain}
    known = {feature.name for feature in schema.feature}
    for name in [*expected, *(name for name in of_name if name not in known)]:
        found = list(_check_feature(name, of_name.get(name), expected.get(name), domains, complete=train is None))
        for other, kind in ((train, "skew"), (previous, "drift")):
            if other is not None and name in expected and name in of_name:
                control = features_by_name(other).get(name)
                found += _compare_feature(of_name[name], control, expected[name], kind, result)
        if found:
            _record(result, name, found)
    return result


def anomaly_lines(anomalies: anomalies_pb2.Anomalies, split: str) -> list[str]:
    """Return one line for each anomaly of a split, for people to read."""
    missing = [f"{split}: no examples"] if anomalies.data_missing else []
    found = sorted(anomalies.anomaly_info.items())
    return missing + [f"{split}: {name}: {reason.description}" for name, info in found for reason in info.reason]


def _record(result: anomalies_pb2.Anomalies, name: str, found: list[_Anomaly]) -> None:
    info = result.anomaly_info[name]
    info.path.step.append(name)
    info.severity = _Info.ERROR if any(one.reason in _ERRORS for one in found) else _Info.WARNING
    info.short_description = found[0].title if len(found) == 1 else "Multiple errors"
    info.description = " ".join(one.description + "." for one in found)
    for one in found:
        info.reason.add(type=one.reason, short_description=one.title, description=one.description)


def _check_feature(
    name: str,
    statistics: statistics_pb2.FeatureNameStatistics | None,
    feature: schema_pb2.Feature | None,
    domains: dict[str, schema_pb2.StringDomain],
    *,
    complete: bool,
) -> Iterator[_Anomaly]:
    """Yield what the schema alone forbids."""
    if feature is None:
        yield _Anomaly(_Info.SCHEMA_NEW_COLUMN, "New column", "the schema does not have this feature")
        return
    if statistics is None:
        if feature.presence.min_count > 0 or feature.presence.min_fraction > 0:
            yield _Anomaly(_Info.SCHEMA_MISSING_COLUMN, "Column dropped", "the examples do not have this feature")
        return
    if SCHEMA_TYPES[statistics.type] != feature.type:
        wanted = schema_pb2.FeatureType.Name(feature.type)
        text = f"is {_Types.Type.Name(statistics.type)} where the schema has {wanted}"
        yield _Anomaly(_Info.UNEXPECTED_DATA_TYPE, "Unexpected data type", text)
        return
    yield from _check_presence(common_statistics(statistics), feature.presence)
    yield from _check_domain(name, statistics, feature, domains, complete=complete)


def _check_presence(
    common: statistics_pb2.CommonStatistics, presence: schema_pb2.FeaturePresence
) -> Iterator[_Anomaly]:
    total = common.num_non_missing + common.num_missing
    if common.num_non_missing < presence.min_fraction * total:
        text = f"missing in {common.num_missing} of {total} examples"
        yield _Anomaly(_Info.FEATURE_TYPE_LOW_FRACTION_PRESENT, "Column dropped", text)
    elif common.num_non_missing < presence.min_count:
        text = f"in {common.num_non_missing} examples, expected in {presence.min_count}"
        yield _Anomaly(_Info.FEATURE_TYPE_LOW_NUMBER_PRESENT, "Column dropped", text)


def _check_domain(
    name: str,
    statistics: statistics_pb2.FeatureNameStatistics,
    feature: schema_pb2.Feature,
    domains: dict[str, schema_pb2.StringDomain],
    *,
    complete: bool,
) -> Iterator[_Anomaly]:
    counts = value_counts(statistics)
    kind = feature.WhichOneof("domain_info")
    if statistics.type != _DOMAIN_TYPES.get(kind, statistics.type):
        text = f"has {kind} in the schema, which does not suit its type, {_Types.Type.Name(statistics.type)}"
        yield _Anomaly(_Info.DOMAIN_INVALID_FOR_TYPE, "The domain does not match the type", text)
    elif kind == "domain" and feature.domain not in domains:
        text = f"its domain {feature.domain!r} is not in the schema"
        yield _Anomaly(_Info.INVALID_SCHEMA_SPECIFICATION, "Missing domain", text)
    elif kind in ("domain", "string_domain"):
        allowed = set((domains[feature.domain] if kind == "domain" else feature.string_domain).value)
        strange = {value: count for value, count in counts.items() if value not in allowed}
        mass = feature.distribution_constraints.min_domain_mass if feature.HasField("distribution_constraints") else 1.0
        if sum(strange.values()) > (1.0 - mass) * sum(counts.values()):
            text = f"{_with_counts(strange)} not in the schema"
            yield _Anomaly(_Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES, "Unexpected string values", text)
        if complete and name == CLASS and (vanished := sorted(allowed - set(counts))):
            text = f"no image of {_enumerate(map(repr, vanished))}, which the schema has"
            yield _Anomaly(_Info.FEATURE_TYPE_LOW_UNIQUE, "Vanished values", text)
    elif kind in ("int_domain", "float_domain") and common_statistics(statistics).num_non_missing:
        ends = (min(map(int, counts)), max(map(int, counts))) if counts else None
        low, high = ends or (statistics.num_stats.min, statistics.num_stats.max)
        yield from _check_range(low, high, getattr(feature, kind), kind)


def _check_range(
    low: float, high: float, domain: schema_pb2.IntDomain | schema_pb2.FloatDomain, kind: str
) -> Iterator[_Anomaly]:
    if kind == "int_domain":
        small, big, form = _Info.INT_TYPE_SMALL_INT, _Info.INT_TYPE_BIG_INT, ".0f"
    else:
        small, big, form = _Info.FLOAT_TYPE_SMALL_FLOAT, _Info.FLOAT_TYPE_BIG_FLOAT, ".4g"
        low, high = float(np.float32(low)), float(np.float32(high))  # as the schema has them
    if domain.HasField("min") and low < domain.min:
        text = f"down to {low:{form}}, below the {domain.min:{form}} that the schema allows"
        yield _Anomaly(small, "Out-of-range values", text)
    if domain.HasField("max") and high > domain.max:
        text = f"up to {high:{form}}, above the {domain.max:{form}} that the schema allows"
        yield _Anomaly(big, "Out-of-range values", text)


def _compare_feature(
    statistics: statistics_pb2.FeatureNameStatistics,
    control: statistics_pb2.FeatureNameStatistics | None,
    feature: schema_pb2.Feature,
    kind: str,
    result: anomalies_pb2.Anomalies,
) -> Iterator[_Anomaly]:
    """Yield what differs from a control data set by more than the schema and chance allow."""
    comparator = feature.skew_comparator if kind == "skew" else feature.drift_comparator
    against = _AGAINST[kind]
    bounds = (comparator.infinity_norm, comparator.jensen_shannon_divergence)
    if not any(bound.HasField("threshold") for bound in bounds):
        return
    if control is None or not common_statistics(control).num_non_missing:
        text = f"nothing to compare with in {against}"
        yield _Anomaly(_Info.COMPARATOR_CONTROL_DATA_MISSING, "Control data missing", text)
        return
    if not common_statistics(statistics).num_non_missing:
        text = f"nothing to compare with {against}"
        yield _Anomaly(_Info.COMPARATOR_TREATMENT_DATA_MISSING, "Treatment data missing", text)
        return
    here, there = value_counts(statistics), value_counts(control)
    if here and there and bounds[0].HasField("threshold"):
        yield from _changed_values(here, there, feature.name, kind)
        value, distance, chance = linf_distance(here, there)
        threshold = bounds[0].threshold + chance
        _add_measurement(result, feature.name, kind, _Measurement.L_INFTY, distance, threshold)
        if distance > threshold:
            n, m = sum(here.values()), sum(there.values())
            text = (
                f"{value!r} has {here.get(value, 0) / n:.1%} of the images and {there.get(value, 0) / m:.1%} of those "
                f"in {against} (L-infinity {distance:.3f}, threshold {threshold:.3f})"
            )
            yield _Anomaly(_Info.COMPARATOR_L_INFTY_HIGH, f"High L-infinity distance to {against}", text)
    if statistics.HasField("num_stats") and control.HasField("num_stats") and bounds[1].HasField("threshold"):
        distance, chance = jensen_shannon_divergence(log_histogram(statistics), log_histogram(control))
        threshold = bounds[1].threshold + chance
        _add_measurement(result, feature.name, kind, _Measurement.JENSEN_SHANNON_DIVERGENCE, distance, threshold)
        if distance > threshold:
            text = (
                f"distributed unlike {against}: median {statistics.num_stats.median:.4g}, there "
                f"{control.num_stats.median:.4g} (Jensen-Shannon {distance:.3f}, threshold {threshold:.3f})"
            )
            title = f"High approximate Jensen-Shannon divergence to {against}"
            yield _Anomaly(_Info.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH, title, text)


def _changed_values(here: dict[str, int], there: dict[str, int], name: str, kind: str) -> Iterator[_Anomaly]:
    """Yield values that only one of two data sets has; in a smaller split, only those not missing by chance."""
    if kind == "drift" and (new := {value: count for value, count in here.items() if value not in there}):
        text = f"{_with_counts(new)} not in the previous run"
        yield _Anomaly(_Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES, "New values", text)
    if name == CLASS:
        least = 1 if kind == "drift" else least_missed(sum(here.values()), sum(there.values()), len(there))
        if vanished := sorted(value for value, count in there.items() if value not in here and count >= least):
            text = f"no image of {_enumerate(map(repr, vanished))}, which {_AGAINST[kind]} has"
            yield _Anomaly(_Info.FEATURE_TYPE_LOW_UNIQUE, "Vanished values", text)


def _add_measurement(
    result: anomalies_pb2.Anomalies, name: str, kind: str, measure: int, value: float, threshold: float
) -> None:
    info = next((info for info in result.drift_skew_info if info.path.step[0] == name), None)
    if info is None:
        info = result.drift_skew_info.add()
        info.path.step.append(name)
    measurements = info.skew_measurements if kind == "skew" else info.drift_measurements
    measurements.add(type=measure, value=value, threshold=threshold)


def _with_counts(counts: dict[str, int]) -> str:
    """Return "'cat' (3 images), 'dog' (1 image)"."""
    return _enumerate(f"{value!r} ({count} image{'s' * (count > 1)})" for value, count in counts.items())


def _enumerate(words: Iterable[str], most: int = 5) -> str:
    """Return the first words, and how many more there are."""
    given = list(words)
    return ", ".join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")
