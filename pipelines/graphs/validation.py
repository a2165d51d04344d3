"""The first steps of all pipelines: examples, what they are like, and what in them would hurt."""

from pathlib import Path

from kcnn.data.ingestion import exclusions
from pipelines.components.data_report import data_report
from pipelines.components.example_gen import example_gen
from pipelines.components.example_validator import example_validator
from pipelines.components.image_scan import image_scan
from pipelines.components.schema_gen import schema_gen
from pipelines.components.statistics_gen import statistics_gen
from pipelines.engine.component import Port
from pipelines.graphs.job import Job
from pipelines.graphs.preflight import previous_statistics, schema_digest


def validation_steps(
    job: Job,
    *,
    dataset: str,
    data_dir: str | None,
    offline: bool,
    fingerprint: str,
    labelled: bool,
    schema_file: str | None,
) -> dict[str, Port]:
    """Return the steps, as data flow.

    Args:
        job: how the pipeline was called.
        dataset: as ExampleGen takes it, like the next four.
        data_dir: see there.
        offline: see there.
        fingerprint: see there.
        labelled: see there.
        schema_file: a schema in the place of the inferred one; None to infer it.

    Returns:
        examples, statistics, schema, anomalies, findings and report, in this order.
    """
    examples = example_gen(
        dataset=dataset,
        data_dir=data_dir,
        offline=offline,
        fingerprint=fingerprint,
        labelled=labelled,
        exclude=job.exclude,
        exclude_digest=exclusions.digest_exclusions(job.exclude),
        beam=job.beam,
    ).outputs["examples"]
    statistics = statistics_gen(examples=examples, beam=job.beam).outputs["statistics"]
    schema = schema_gen(
        statistics=statistics, schema_file=schema_file, schema_digest=schema_digest(schema_file)
    ).outputs["schema"]
    anomalies = example_validator(
        statistics=statistics, schema=schema, **previous_statistics(Path(job.pipeline_root), dataset, fingerprint)
    ).outputs["anomalies"]
    findings = image_scan(examples=examples, beam=job.beam).outputs["findings"]
    report = data_report(
        dataset=dataset, examples=examples, statistics=statistics, anomalies=anomalies, findings=findings
    ).outputs["report"]
    return {
        "examples": examples,
        "statistics": statistics,
        "schema": schema,
        "anomalies": anomalies,
        "findings": findings,
        "report": report,
    }
