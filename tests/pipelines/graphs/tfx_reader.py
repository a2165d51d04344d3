"""Reads what a run of the pipeline made with TFX's own libraries; a program for an interpreter that has `tfx`.

    TFX_PYTHON tfx_reader.py PIPELINE_ROOT

Prints one JSON object of what TFX found, which test_tfx.py compares with what kcnn says of the same run.
"""

import contextlib
import glob
import json
import os
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components import ExampleValidator, ImportExampleGen, StatisticsGen
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

SPLITS = ("train", "val", "test")


def newest(root: str, component: str, output: str) -> str:
    """Return the folder of the last execution."""
    return max(glob.glob(f"{root}/{component}/{output}/*[0-9]"), key=lambda path: int(os.path.basename(path)))


def anomalies_of(folder: str) -> dict:
    """Return split → feature → short description."""
    found = {}
    for split in SPLITS:
        with open(f"{folder}/Split-{split}/SchemaDiff.pb", "rb") as file:
            read = anomalies_pb2.Anomalies.FromString(file.read())
        found[split] = {name: info.short_description for name, info in read.anomaly_info.items()}
    return found


def main(root: str) -> None:
    """Everything TFX can be asked about the run."""
    examples, statistics = newest(root, "ExampleGen", "examples"), newest(root, "StatisticsGen", "statistics")
    schema_folder = newest(root, "SchemaGen", "schema")
    schema = tfdv.load_schema_text(f"{schema_folder}/schema.pbtxt")
    loaded = {split: tfdv.load_stats_binary(f"{statistics}/Split-{split}/FeatureStats.pb") for split in SPLITS}
    validated = {
        split: tfdv.validate_statistics(stats, schema, previous_statistics=None) for split, stats in loaded.items()
    }
    found = {
        "examples": {split: stats.datasets[0].num_examples for split, stats in loaded.items()},
        "features": sorted(feature.path.step[0] for feature in loaded["train"].datasets[0].features),
        "validated": {
            split: {name: info.short_description for name, info in result.anomaly_info.items()}
            for split, result in validated.items()
        },
        "anomalies": anomalies_of(newest(root, "ExampleValidator", "anomalies")),
        "html": len(tfdv.utils.display_util.get_statistics_html(loaded["train"])),
    }
    if glob.glob(f"{root}/Transform"):
        transform = tft.TFTransformOutput(newest(root, "Transform", "transform_graph"))
        found["transformed"] = {
            name: [list(spec.shape), spec.dtype.name] for name, spec in transform.transformed_feature_spec().items()
        }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        found |= by_pipeline(examples, schema_folder, folder)
    print(json.dumps(found))


def by_pipeline(examples: str, schema_folder: str, folder: str) -> dict:
    """Run TFX's ImportExampleGen, StatisticsGen and ExampleValidator on the examples by its own runner."""
    splits = [example_gen_pb2.Input.Split(name=split, pattern=f"Split-{split}/*") for split in SPLITS]
    generator = ImportExampleGen(input_base=examples, input_config=example_gen_pb2.Input(splits=splits))
    measured = StatisticsGen(examples=generator.outputs["examples"])
    schema = importer.Importer(source_uri=schema_folder, artifact_type=standard_artifacts.Schema).with_id("schema")
    validator = ExampleValidator(statistics=measured.outputs["statistics"], schema=schema.outputs["result"])
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="reader",
            pipeline_root=f"{folder}/root",
            components=[generator, measured, schema, validator],
            metadata_connection_config=metadata.sqlite_metadata_connection_config(f"{folder}/metadata.sqlite"),
        )
    )
    stats = {
        split: tfdv.load_stats_binary(glob.glob(f"{folder}/root/StatisticsGen/*/*/Split-{split}/FeatureStats.pb")[0])
        for split in SPLITS
    }
    labels = {
        split: next(
            feature for feature in found.datasets[0].features if feature.path.step[0] == "image/class/text"
        ).string_stats
        for split, found in stats.items()
    }
    return {
        "imported": {split: found.datasets[0].num_examples for split, found in stats.items()},
        "labels": {
            split: {bucket.label: bucket.sample_count for bucket in found.rank_histogram.buckets}
            for split, found in labels.items()
        },
        "tfx_anomalies": anomalies_of(glob.glob(f"{folder}/root/ExampleValidator/*/*")[0]),
    }


if __name__ == "__main__":
    main(sys.argv[1])
