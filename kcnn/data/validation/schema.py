"""The schema of a data set, inferred from its training split and open to editing, and what in other splits departs
from it or from the training split: the anomalies, as TensorFlow Data Validation names and stores them.

Of the schema's means these are checked: type, presence, string and integer and float domains, `min_domain_mass`, and
the comparators `infinity_norm` and `jensen_shannon_divergence` for skew (against the training split) and drift (against
an earlier run). A threshold is what a difference in the data may amount to; the difference that chance alone makes
between two samples of these sizes comes on top, so that small splits raise no false alarms.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from scipy import special, stats
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from kcnn.data.records import COLUMN
from kcnn.data.validation.statistics import COMPARED
from kcnn.errors import UserError

CLASS = "image/class/text"

# A twentieth of the images in another class: what accuracy may differ by at most, from this cause.
LABELS_THRESHOLD = 0.05
# Bits, of 1: two normal distributions whose means are three quarters of a standard deviation apart.
NUMBERS_THRESHOLD = 0.1
# How seldom chance may raise an alarm in one comparison; a run makes some twenty.
FALSE_ALARMS = 1e-4
# A numeric range goes on beyond that of n training images by 1/2 + 10/n of its length: more than five standard
# deviations from a normal distribution's mean, as a rule, so that other samples' extremes lie within. For what is
# proportional, the length is of logarithms, and the range reaches to the double and the half at least.
_WIDENING, _WIDENING_OF_FEW, _LEAST_FACTOR = 0.5, 10.0, 2.0
_LINEAR = {"image/brightness": (0.0, 255.0)}  # widened by differences, within what is possible
_LEAST_EXPECTED = 5.0  # images in a bucket, below which the chi-squared approximation fails (Cochran, 1954)

_Info = anomalies_pb2.AnomalyInfo
_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
_Types = statistics_pb2.FeatureNameStatistics
_SCHEMA_TYPES = {
    _Types.INT: schema_pb2.INT,
    _Types.FLOAT: schema_pb2.FLOAT,
    _Types.STRING: schema_pb2.BYTES,
    _Types.BYTES: schema_pb2.BYTES,
}
_DOMAIN_TYPES = {
    "int_domain": _Types.INT,
    "float_domain": _Types.FLOAT,
    "domain": _Types.STRING,
    "string_domain": _Types.STRING,
}
_AGAINST = {"skew": "train", "drift": "the previous run"}
# What a model cannot answer rightly, or what is not what the name says; all else is a warning.
_ERRORS = {
    _Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
    _Info.SCHEMA_MISSING_COLUMN,
    _Info.UNEXPECTED_DATA_TYPE,
    _Info.FEATURE_TYPE_LOW_FRACTION_PRESENT,
    _Info.INVALID_SCHEMA_SPECIFICATION,
    _Info.DOMAIN_INVALID_FOR_TYPE,
}


def infer(train: statistics_pb2.DatasetFeatureStatistics) -> schema_pb2.Schema:
    """The schema that the training split fulfils, with room for other samples of the same kind.

    String domains hold the values that occur, ranges are widened (`_WIDENING`), what every example has is required;
    derived features are optional, since the examples do not hold them; a label column may hold anything.
    """
    schema = schema_pb2.Schema()
    for statistics in train.features:
        name = statistics.path.step[0]
        feature = schema.feature.add(name=name, type=_SCHEMA_TYPES[statistics.type])
        common = _common(statistics)
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
        counts = _counts(statistics)
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
            low, high = _widened(name, statistics.num_stats)
            if statistics.type == _Types.INT:
                feature.int_domain.CopyFrom(schema_pb2.IntDomain(name=name, min=math.floor(low), max=math.ceil(high)))
            else:
                feature.float_domain.CopyFrom(schema_pb2.FloatDomain(name=name, min=low, max=high))
            for comparator in (feature.skew_comparator, feature.drift_comparator):
                comparator.jensen_shannon_divergence.threshold = NUMBERS_THRESHOLD
    return schema


def _widened(name: str, found: statistics_pb2.NumericStatistics) -> tuple[float, float]:
    low, high, share = found.min, found.max, _WIDENING + _WIDENING_OF_FEW / found.common_stats.num_non_missing
    if name in _LINEAR:
        least, most = _LINEAR[name]
        more = share * (high - low)
        return max(least, low - more), min(most, high + more)
    factor = max(_LEAST_FACTOR, (high / low) ** share) if low > 0 else _LEAST_FACTOR
    return low / factor, min(high * factor, 2.0**53)


def write(schema: schema_pb2.Schema, path: Path) -> None:
    """Writes schema.pbtxt."""
    path.write_text(text_format.MessageToString(schema, as_utf8=True), encoding="utf-8")


def read(path: Path) -> schema_pb2.Schema:
    """Reads schema.pbtxt.

    Raises:
        UserError: it is not there, or not the text of a Schema.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; expected a schema.pbtxt") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a schema.pbtxt: {error}") from None


@dataclasses.dataclass(frozen=True)
class _Finding:
    reason: Any  # AnomalyInfo.Type
    title: str
    description: str


def validate(
    statistics: statistics_pb2.DatasetFeatureStatistics,
    schema: schema_pb2.Schema,
    *,
    train: statistics_pb2.DatasetFeatureStatistics | None = None,
    previous: statistics_pb2.DatasetFeatureStatistics | None = None,
) -> anomalies_pb2.Anomalies:
    """What in a split departs from its schema; a pure function.

    Args:
        statistics: of the split.
        schema: what is expected.
        train: of the training split, for another split's skew; None for the training split itself, which has to hold
            every class of the schema.
        previous: of an earlier run's training split, for the training split's drift.

    Returns:
        anomalies by feature; `drift_skew_info` has all that was compared, with the threshold that counted: the
        schema's and chance's share.
    """
    result = anomalies_pb2.Anomalies(anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH)
    result.baseline.CopyFrom(schema)
    if not statistics.num_examples:
        result.data_missing = True
        return result
    of_name = _by_name(statistics)
    expected = {feature.name: feature for feature in schema.feature if feature.lifecycle_stage != schema_pb2.DEPRECATED}
    domains = {domain.name: domain for domain in schema.string_domain}
    known = {feature.name for feature in schema.feature}
    for name in [*expected, *(name for name in of_name if name not in known)]:
        findings = list(_check(name, of_name.get(name), expected.get(name), domains, complete=train is None))
        for other, kind in ((train, "skew"), (previous, "drift")):
            if other is not None and name in expected and name in of_name:
                control = _by_name(other).get(name)
                findings += _compare(of_name[name], control, expected[name], kind, result)
        if findings:
            _record(result, name, findings)
    return result


def lines(anomalies: anomalies_pb2.Anomalies, split: str) -> list[str]:
    """One line for each anomaly, for people to read."""
    missing = [f"{split}: no examples"] if anomalies.data_missing else []
    found = sorted(anomalies.anomaly_info.items())
    return missing + [f"{split}: {name}: {reason.description}" for name, info in found for reason in info.reason]


def _record(result: anomalies_pb2.Anomalies, name: str, findings: list[_Finding]) -> None:
    info = result.anomaly_info[name]
    info.path.step.append(name)
    info.severity = _Info.ERROR if any(found.reason in _ERRORS for found in findings) else _Info.WARNING
    info.short_description = findings[0].title if len(findings) == 1 else "Multiple errors"
    info.description = " ".join(found.description + "." for found in findings)
    for found in findings:
        info.reason.add(type=found.reason, short_description=found.title, description=found.description)


def _check(
    name: str,
    statistics: statistics_pb2.FeatureNameStatistics | None,
    feature: schema_pb2.Feature | None,
    domains: dict[str, schema_pb2.StringDomain],
    *,
    complete: bool,
) -> Iterator[_Finding]:
    """What the schema alone forbids."""
    if feature is None:
        yield _Finding(_Info.SCHEMA_NEW_COLUMN, "New column", "the schema does not have this feature")
        return
    if statistics is None:
        if feature.presence.min_count > 0 or feature.presence.min_fraction > 0:
            yield _Finding(_Info.SCHEMA_MISSING_COLUMN, "Column dropped", "the examples do not have this feature")
        return
    if _SCHEMA_TYPES[statistics.type] != feature.type:
        wanted = schema_pb2.FeatureType.Name(feature.type)
        text = f"is {_Types.Type.Name(statistics.type)} where the schema has {wanted}"
        yield _Finding(_Info.UNEXPECTED_DATA_TYPE, "Unexpected data type", text)
        return
    yield from _check_presence(_common(statistics), feature.presence)
    counts = _counts(statistics)
    kind = feature.WhichOneof("domain_info")
    if statistics.type != _DOMAIN_TYPES.get(kind, statistics.type):
        text = f"has {kind} in the schema, which does not suit its type, {_Types.Type.Name(statistics.type)}"
        yield _Finding(_Info.DOMAIN_INVALID_FOR_TYPE, "The domain does not match the type", text)
    elif kind == "domain" and feature.domain not in domains:
        text = f"its domain {feature.domain!r} is not in the schema"
        yield _Finding(_Info.INVALID_SCHEMA_SPECIFICATION, "Missing domain", text)
    elif kind in ("domain", "string_domain"):
        allowed = set((domains[feature.domain] if kind == "domain" else feature.string_domain).value)
        strange = {value: count for value, count in counts.items() if value not in allowed}
        mass = feature.distribution_constraints.min_domain_mass if feature.HasField("distribution_constraints") else 1.0
        if sum(strange.values()) > (1.0 - mass) * sum(counts.values()):
            text = f"{_counted(strange)} not in the schema"
            yield _Finding(_Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES, "Unexpected string values", text)
        if complete and name == CLASS and (gone := sorted(allowed - set(counts))):
            text = f"no image of {_listed(map(repr, gone))}, which the schema has"
            yield _Finding(_Info.FEATURE_TYPE_LOW_UNIQUE, "Vanished values", text)
    elif kind in ("int_domain", "float_domain") and _common(statistics).num_non_missing:
        ends = (min(map(int, counts)), max(map(int, counts))) if counts else None
        low, high = ends or (statistics.num_stats.min, statistics.num_stats.max)
        yield from _check_range(low, high, getattr(feature, kind), kind)


def _check_presence(
    common: statistics_pb2.CommonStatistics, presence: schema_pb2.FeaturePresence
) -> Iterator[_Finding]:
    total = common.num_non_missing + common.num_missing
    if common.num_non_missing < presence.min_fraction * total:
        text = f"missing in {common.num_missing} of {total} examples"
        yield _Finding(_Info.FEATURE_TYPE_LOW_FRACTION_PRESENT, "Column dropped", text)
    elif common.num_non_missing < presence.min_count:
        text = f"in {common.num_non_missing} examples, expected in {presence.min_count}"
        yield _Finding(_Info.FEATURE_TYPE_LOW_NUMBER_PRESENT, "Column dropped", text)


def _check_range(low: float, high: float, domain: Any, kind: str) -> Iterator[_Finding]:
    if kind == "int_domain":
        small, big, form = _Info.INT_TYPE_SMALL_INT, _Info.INT_TYPE_BIG_INT, ".0f"
    else:
        small, big, form = _Info.FLOAT_TYPE_SMALL_FLOAT, _Info.FLOAT_TYPE_BIG_FLOAT, ".4g"
        low, high = float(np.float32(low)), float(np.float32(high))  # as the schema has them
    if domain.HasField("min") and low < domain.min:
        text = f"down to {low:{form}}, below the {domain.min:{form}} that the schema allows"
        yield _Finding(small, "Out-of-range values", text)
    if domain.HasField("max") and high > domain.max:
        text = f"up to {high:{form}}, above the {domain.max:{form}} that the schema allows"
        yield _Finding(big, "Out-of-range values", text)


def _compare(
    statistics: statistics_pb2.FeatureNameStatistics,
    control: statistics_pb2.FeatureNameStatistics | None,
    feature: schema_pb2.Feature,
    kind: str,
    result: anomalies_pb2.Anomalies,
) -> Iterator[_Finding]:
    """What differs from a control data set by more than the schema and chance allow."""
    comparator = feature.skew_comparator if kind == "skew" else feature.drift_comparator
    against = _AGAINST[kind]
    bounds = (comparator.infinity_norm, comparator.jensen_shannon_divergence)
    if not any(bound.HasField("threshold") for bound in bounds):
        return
    if control is None or not _common(control).num_non_missing:
        text = f"nothing to compare with in {against}"
        yield _Finding(_Info.COMPARATOR_CONTROL_DATA_MISSING, "Control data missing", text)
        return
    if not _common(statistics).num_non_missing:
        text = f"nothing to compare with {against}"
        yield _Finding(_Info.COMPARATOR_TREATMENT_DATA_MISSING, "Treatment data missing", text)
        return
    here, there = _counts(statistics), _counts(control)
    if here and there and bounds[0].HasField("threshold"):
        yield from _changed(here, there, feature.name, kind)
        value, distance, chance = labels_distance(here, there)
        threshold = bounds[0].threshold + chance
        _measure(result, feature.name, kind, _Measurement.L_INFTY, distance, threshold)
        if distance > threshold:
            n, m = sum(here.values()), sum(there.values())
            text = (
                f"{value!r} has {here.get(value, 0) / n:.1%} of the images and {there.get(value, 0) / m:.1%} of those "
                f"in {against} (L-infinity {distance:.3f}, threshold {threshold:.3f})"
            )
            yield _Finding(_Info.COMPARATOR_L_INFTY_HIGH, f"High L-infinity distance to {against}", text)
    if statistics.HasField("num_stats") and control.HasField("num_stats") and bounds[1].HasField("threshold"):
        distance, chance = numbers_distance(_buckets(statistics), _buckets(control))
        threshold = bounds[1].threshold + chance
        _measure(result, feature.name, kind, _Measurement.JENSEN_SHANNON_DIVERGENCE, distance, threshold)
        if distance > threshold:
            text = (
                f"distributed unlike {against}: median {statistics.num_stats.median:.4g}, there "
                f"{control.num_stats.median:.4g} (Jensen-Shannon {distance:.3f}, threshold {threshold:.3f})"
            )
            title = f"High approximate Jensen-Shannon divergence to {against}"
            yield _Finding(_Info.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH, title, text)


def _changed(here: dict[str, int], there: dict[str, int], name: str, kind: str) -> Iterator[_Finding]:
    """Values that only one of two data sets has; in a smaller split, only what is not missing by chance."""
    n, m = sum(here.values()), sum(there.values())
    if kind == "drift" and (new := {value: count for value, count in here.items() if value not in there}):
        text = f"{_counted(new)} not in the previous run"
        yield _Finding(_Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES, "New values", text)
    if name == CLASS:
        # Each of a value's images falls into the other data set with probability m / (n + m), were the two alike.
        least = 1 if kind == "drift" else math.log(FALSE_ALARMS / len(there)) / math.log(m / (n + m))
        if gone := sorted(value for value, count in there.items() if value not in here and count >= least):
            text = f"no image of {_listed(map(repr, gone))}, which {_AGAINST[kind]} has"
            yield _Finding(_Info.FEATURE_TYPE_LOW_UNIQUE, "Vanished values", text)


def labels_distance(here: dict[str, int], there: dict[str, int]) -> tuple[str, float, float]:
    """The difference between two samples' shares of a value, for the value whose difference says most.

    Returns:
        the value; |share here - share there|; and what chance makes that at most, but for `FALSE_ALARMS` of all pairs
        of samples from one distribution, over all values together: of the value's images in both, how many are here is
        hypergeometric then (Fisher's exact test).
    """
    n, m = sum(here.values()), sum(there.values())
    values = sorted({*here, *there})
    counts = np.array([[here.get(value, 0), there.get(value, 0)] for value in values])
    both = counts.sum(axis=1)
    alike = stats.hypergeom(n + m, both, n)
    each = FALSE_ALARMS / (2 * len(values))
    ends = np.stack([alike.ppf(each), alike.isf(each)])  # how many of them are here, by chance
    chances = np.abs(ends / n - (both - ends) / m).max(axis=0)
    distances = np.abs(counts[:, 0] / n - counts[:, 1] / m)
    worst = int(np.argmax(distances - chances))
    return values[worst], float(distances[worst]), float(chances[worst])


def numbers_distance(here: dict[float, float], there: dict[float, float]) -> tuple[float, float]:
    """The Jensen-Shannon divergence of two samples in the same buckets, in bits.

    Neighbouring buckets are joined until each can expect `_LEAST_EXPECTED` images in both samples.

    Args:
        here: a bucket's lower end → images in it.
        there: likewise.

    Returns:
        the divergence, and what chance makes it at most, but for `FALSE_ALARMS` of all pairs of samples from one
        distribution: with k buckets the divergence, to second order, is chi-squared of k - 1 degrees of freedom times
        (1/n + 1/m) / (8 ln 2).
    """
    edges = sorted({*here, *there})
    counts = np.array([[sample.get(edge, 0.0) for edge in edges] for sample in (here, there)])
    n, m = counts.sum(axis=1)
    least = _LEAST_EXPECTED * (n + m) / min(n, m)
    joined, pending = [], np.zeros(2)
    for column in counts.T:
        pending = pending + column
        if pending.sum() >= least:
            joined.append(pending)
            pending = np.zeros(2)
    if joined:
        joined[-1] = joined[-1] + pending
    if len(joined) < 2:
        return 0.0, 0.0
    p, q = np.array(joined).T / [[n], [m]]
    middle = (p + q) / 2
    divergence = float(np.sum(special.rel_entr(p, middle) + special.rel_entr(q, middle)) / (2 * math.log(2)))
    chance = float(special.chdtri(len(joined) - 1, FALSE_ALARMS)) * (1 / n + 1 / m) / (8 * math.log(2))
    return divergence, chance


def _measure(result: anomalies_pb2.Anomalies, name: str, kind: str, type_: Any, value: float, threshold: float) -> None:
    info = next((info for info in result.drift_skew_info if info.path.step[0] == name), None)
    if info is None:
        info = result.drift_skew_info.add()
        info.path.step.append(name)
    measurements = info.skew_measurements if kind == "skew" else info.drift_measurements
    measurements.add(type=type_, value=value, threshold=threshold)


def _by_name(
    statistics: statistics_pb2.DatasetFeatureStatistics,
) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    return {feature.path.step[0] if feature.path.step else feature.name: feature for feature in statistics.features}


def _common(statistics: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return getattr(statistics, statistics.WhichOneof("stats")).common_stats


def _counts(statistics: statistics_pb2.FeatureNameStatistics) -> dict[str, int]:
    """Value → how often; empty for numbers, and for strings that are not counted one by one."""
    return {bucket.label: int(bucket.sample_count) for bucket in statistics.string_stats.rank_histogram.buckets}


def _buckets(statistics: statistics_pb2.FeatureNameStatistics) -> dict[float, float]:
    (histogram,) = [custom.histogram for custom in statistics.custom_stats if custom.name == COMPARED]
    return {bucket.low_value: bucket.sample_count for bucket in histogram.buckets}


def _counted(counts: dict[str, int]) -> str:
    """'cat' (3 images), 'dog' (1 image)."""
    return _listed(f"{value!r} ({count} image{'s' * (count > 1)})" for value, count in counts.items())


def _listed(words: Iterable[str], most: int = 5) -> str:
    """The first ones, and how many more there are."""
    given = list(words)
    return ", ".join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")
