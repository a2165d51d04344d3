"""Statistics: against numpy, SciPy and TensorFlow on the same examples, and the same to the byte however merged."""

import collections
import functools
import gzip
import operator
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2

from kcnn.data.examples import Example, encode_example, read_examples
from kcnn.data.records import read_records
from kcnn.data.validation.anomalies import find_anomalies
from kcnn.data.validation.measures import FEATURES
from kcnn.data.validation.schema import infer_schema
from kcnn.data.validation.statistics import compute_statistics, summarize_records
from kcnn.data.validation.statistics_proto import statistics_to_proto
from kcnn.errors import UserError
from tests.data.validation.pictures_of_many_formats import labelled_picture
from tests.shards import write

COUNT = 70


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Write four shards of train, one of val."""
    folder = tmp_path_factory.mktemp("examples")
    return {
        "train": write(folder, "train", [labelled_picture(index) for index in range(COUNT)], 4),
        "val": write(folder, "val", [labelled_picture(1000)]),
    }


@pytest.fixture(scope="module")
def proto(shards):
    parts = [summarize_records(read_records(path)) for path in shards["train"]]
    written = statistics_to_proto(functools.reduce(operator.add, parts), "train").SerializeToString()
    (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(written).datasets
    assert (dataset.name, dataset.num_examples) == ("train", COUNT)
    return {feature.path.step[0]: feature for feature in dataset.features}


@pytest.fixture(scope="module")
def columns(shards):
    """Return the features as TensorFlow reads them."""
    found = collections.defaultdict(list)
    for record in read_examples(shards["train"]).as_numpy_iterator():
        for key, feature in tf.train.Example.FromString(record).features.feature.items():
            found[key] += feature.bytes_list.value or feature.int64_list.value
    return found


def test_every_feature_of_the_examples_is_measured(proto, columns):
    derived = {name for name, feature in proto.items() if feature.HasField("validation_derived_source")}
    assert set(proto) - derived == set(columns)
    assert derived == {f"image/{name}" for name in ("aspect", "brightness", "bytes", "channels", "sharpness")}
    for feature in proto.values():
        common = getattr(feature, feature.WhichOneof("stats")).common_stats
        assert (common.num_non_missing, common.num_missing, common.tot_num_values) == (COUNT, 0, COUNT)
        assert (common.min_num_values, common.max_num_values, common.avg_num_values) == (1, 1, 1)
        assert sum(bucket.sample_count for bucket in common.num_values_histogram.buckets) == pytest.approx(COUNT)


def test_numbers(proto, columns):
    heights, widths = (np.array(columns[f"image/{side}"], float) for side in ("height", "width"))
    sizes = np.array([len(data) for data in columns["image/encoded"]], float)
    for name, values, exact in (
        ("image/height", heights, True),
        ("image/width", widths, True),
        ("image/bytes", sizes, False),
        ("image/aspect", widths / heights, False),
    ):
        found = proto[name].num_stats
        near = pytest.approx if exact else functools.partial(pytest.approx, rel=5e-3, abs=2**-15)
        assert found.mean == pytest.approx(values.mean(), abs=2**-16)
        assert found.std_dev == pytest.approx(values.std(), abs=2**-16)
        assert (found.min, found.max) == pytest.approx((values.min(), values.max()), abs=2**-16)
        assert found.median == near(np.median(values))
        assert found.num_zeros == 0
        standard, quantiles = found.histograms
        assert standard.type == statistics_pb2.Histogram.STANDARD
        assert quantiles.type == statistics_pb2.Histogram.QUANTILES
        for histogram in (standard, quantiles):
            lows, highs = ([getattr(b, end) for b in histogram.buckets] for end in ("low_value", "high_value"))
            assert lows[1:] == highs[:-1]
            assert (lows[0], highs[-1]) == (found.min, found.max)
            assert sum(bucket.sample_count for bucket in histogram.buckets) == pytest.approx(COUNT)
        if exact:
            counts = np.histogram(values, 10)[0]
            np.testing.assert_allclose([bucket.sample_count for bucket in standard.buckets], counts)
        ends = [quantiles.buckets[0].low_value, *(bucket.high_value for bucket in quantiles.buckets)]
        np.testing.assert_allclose(
            ends, np.quantile(values, np.linspace(0, 1, 11), method="lower"), rtol=5e-3, atol=2**-15
        )
    found = proto["image/encoded"].bytes_stats
    assert (found.min_num_bytes, found.max_num_bytes_int) == (sizes.min(), sizes.max())
    assert found.avg_num_bytes == pytest.approx(sizes.mean())


def test_strings(proto, columns):
    for name in ("image/class/text", "image/format", "image/class/label"):
        found = proto[name].string_stats
        values = [value.decode() if isinstance(value, bytes) else str(value) for value in columns[name]]
        ranked = [(bucket.label, bucket.sample_count) for bucket in found.rank_histogram.buckets]
        assert dict(ranked) == collections.Counter(values)
        assert [count for _, count in ranked] == sorted((count for _, count in ranked), reverse=True)
        assert [(top.value, top.frequency) for top in found.top_values] == ranked
        assert found.unique == len(set(values))
        assert found.avg_length == pytest.approx(np.mean([len(value.encode()) for value in values]))
    assert proto["image/key/sha256"].string_stats.unique == 60  # ten images occur twice
    assert proto["image/filename"].string_stats.unique == COUNT
    assert proto["image/class/label"].type == statistics_pb2.FeatureNameStatistics.INT


def test_what_pillow_cannot_read_is_missing():
    good = encode_example(labelled_picture(0))
    bad = encode_example(Example(b"no image", "b\udcff.jpg", 0, "b\udcff", "JPEG", 10, 10, "0"))
    (dataset,) = statistics_to_proto(summarize_records([good, bad]), "val").datasets
    found = {feature.path.step[0]: feature for feature in dataset.features}
    assert found["image/brightness"].num_stats.common_stats.num_missing == 1
    assert found["image/bytes"].num_stats.min == len(b"no image")
    assert found["image/class/text"].string_stats.invalid_utf8_count == 1
    assert {top.value for top in found["image/class/text"].string_stats.top_values} == {"klass 1 é", "b\\xff"}


def test_merging_is_the_same_to_the_byte_in_any_order(shards):
    records = [record for path in shards["train"] for record in read_records(path)]
    whole = summarize_records(records)
    expected = statistics_to_proto(whole, "train").SerializeToString(deterministic=True)
    shuffled = random.Random(0)
    for _ in range(30):
        shuffled.shuffle(records)
        cuts = sorted(shuffled.choices(range(COUNT + 1), k=shuffled.randrange(6)))
        parts = [summarize_records(records[a:b]) for a, b in zip([0, *cuts], [*cuts, COUNT], strict=True)]
        while len(parts) > 1:  # neighbours or not, in any grouping
            a, b = (parts.pop(shuffled.randrange(len(parts))) for _ in range(2))
            parts.append(a + b)
        assert parts[0] == whole
        assert statistics_to_proto(parts[0], "train").SerializeToString(deterministic=True) == expected


def test_label_columns_are_counted_while_their_values_are_few():
    def record(index):
        columns = {"site": f"s{index % 3}", "id": str(index)} | ({"late": "é"} if index >= 1500 else {})
        return encode_example(Example(b"", f"{index}.jpg", 0, "a", "JPEG", 1, 1, "", columns))

    records = list(map(record, range(2000)))
    whole = summarize_records(records)
    assert (
        sum(map(summarize_records, (records[:1400], records[1400:1450], records[1450:])), summarize_records([]))
        == whole
    )
    (dataset,) = statistics_to_proto(whole, "train").datasets
    found = {feature.path.step[0]: feature.string_stats for feature in dataset.features}
    site, numbers, late = (found[f"image/column/{name}"] for name in ("site", "id", "late"))
    assert {bucket.label: bucket.sample_count for bucket in site.rank_histogram.buckets} == {
        f"s{index}": sum(other % 3 == index for other in range(2000)) for index in range(3)
    }
    assert (numbers.unique, len(numbers.rank_histogram.buckets)) == (2000, 0)
    assert (late.common_stats.num_missing, late.top_values[0].value) == (1500, "é")
    schema = infer_schema(dataset)
    (feature,) = (feature for feature in schema.feature if feature.name == "image/column/late")
    assert (feature.presence.min_count, feature.presence.min_fraction, feature.domain) == (1, 0, "")
    other = summarize_records([encode_example(Example(b"", "x", 0, "a", "JPEG", 1, 1, "", {"site": "new"}))])
    found = find_anomalies(statistics_to_proto(other, "test").datasets[0], schema)
    assert "image/column/site" not in found.anomaly_info


def test_a_pool_finds_what_one_process_finds(shards):
    pooled = compute_statistics(shards, COUNT + 1)
    assert pooled["train"] == functools.reduce(
        operator.add, (summarize_records(read_records(path)) for path in shards["train"])
    )
    assert pooled["val"] == compute_statistics({"val": shards["val"]})["val"]
    assert pooled["val"].examples == 1


def test_no_examples():
    empty = compute_statistics({"test": []})["test"]
    (dataset,) = statistics_to_proto(empty, "test").datasets
    assert (dataset.num_examples, len(dataset.features)) == (0, len(FEATURES))


@pytest.mark.parametrize("damage", ["cut", "changed", "no gzip", "half a record"])
def test_a_damaged_shard_is_named(shards, tmp_path, damage):
    whole = Path(shards["val"][0]).read_bytes()
    middle = len(whole) // 2
    path = tmp_path / "data_tfrecord-00000-of-00001.gz"
    content = {
        "cut": whole[:middle],
        "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "no gzip": b"rubbish",
        "half a record": gzip.compress(gzip.decompress(whole)[:-10]),
    }
    path.write_bytes(content[damage])
    with pytest.raises(UserError, match=r"data_tfrecord-00000-of-00001\.gz: damaged examples"):
        compute_statistics({"val": [str(path)]})


def test_a_worker_loads_no_tensorflow():
    modules = "kcnn.data.validation.statistics_proto, kcnn.data.validation.anomalies"
    code = f"import sys, {modules}; assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
