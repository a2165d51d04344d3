"""The data job: what is in a data set, and what in it would hurt a classifier; by the steps of `validation.py`."""

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn.data.datasets.folder_layout import read_layout
from kcnn.data.datasets.opening import normalize_dataset_name, open_dataset
from kcnn.data.scan.checks import CHECKS
from kcnn.data.scan.findings import COPIES, Finding
from kcnn.terminal import print_lines
from pipelines.engine.component import Node
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.preflight import check_apart, check_writable, leave_out
from pipelines.graphs.validation import validation_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataJob(Job):
    """A call of the pipeline.

    Attributes:
        dataset: a name or a path, as `open_dataset` takes it; or a folder of pictures without class folders.
        data_dir: the folder of a TensorFlow dataset, as `open_dataset` takes it.
        offline: attempt no connection.
        schema: a schema.pbtxt in the place of the inferred one; None to infer it.
    """

    dataset: str
    data_dir: str | None
    offline: bool
    schema: str | None = None


def graph(job: DataJob, fingerprint: str) -> list[Node]:
    """Return the steps, as data flow."""
    found = validation_steps(
        job,
        dataset=job.dataset,
        data_dir=job.data_dir,
        offline=job.offline,
        fingerprint=fingerprint,
        labelled=_labelled(job.dataset),
        schema_file=job.schema,
    )
    return [port.node for port in found.values()]


def run(job: DataJob) -> Path | None:
    """Run the job, and print what it found and where.

    Returns:
        the page; None where the part of the pipeline that was asked for makes none.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
    """
    job = dataclasses.replace(job, dataset=normalize_dataset_name(job.dataset))
    check_writable("--pipeline_root", Path(job.pipeline_root))
    check_apart("--pipeline_root", Path(job.pipeline_root), job.dataset)
    dataset = open_dataset(job.dataset, data_dir=job.data_dir, offline=job.offline, labelled=_labelled(job.dataset))
    dataset = leave_out(dataset, job.exclude)
    config = {"dataset": job.dataset, "data_dir": job.data_dir, "offline": job.offline}
    made = run_graph(job, graph(job, dataset.fingerprint), pipeline="data", goal="DataReport", config=config)
    if made is None:
        return None
    print_lines(*summarize_findings(made))
    return made["DataReport"]["report"].page


def summarize_findings(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of what was found and where, on one screen."""
    summary, scan = made["ExampleGen"]["examples"].summary(), made["ImageScan"]["findings"].read()
    anomalies = made["ExampleValidator"]["anomalies"].lines()
    counts = Counter(finding.finding for finding in scan.findings if finding.splits)
    splits = ", ".join(f"{split} {summary.total(split)}" for split in summary.counts)
    classes = f"{len(summary.labels)} class" + "es" * (len(summary.labels) != 1)
    return [
        f"Images: {scan.images} in {classes} ({splits}), {len(summary.excluded)} excluded",
        f"Anomalies: {len(anomalies)}",
        "Findings:" if counts or scan.usual else "Findings: none",
        *(f"  {kind.name:16}{_number(counts[kind.name], 'group')}" for kind in COPIES if counts[kind.name]),
        *(f"  {check.name:16}{_number(counts[check.name], 'image')}" for check in CHECKS if counts[check.name]),
        *(f"  {name:16}{count} of {scan.images} images, as is usual here" for name, count in scan.usual.items()),
        *(f"Worst leak: {_in_words(finding)}" for finding in scan.findings[:1] if finding.finding == "leak"),
        f"Report: {made['DataReport']['report'].page}",
        f"  as data: {made['ImageScan']['findings'].path}/findings.jsonl, exclusions.csv (nothing was excluded by it)",
    ]


def _number(count: int, unit: str) -> str:
    return f"{count} {unit}" + "s" * (count != 1)


_HOW = {
    "identical": "are equal, byte for byte",
    "alike": "show one picture",
    "mirrored": "show one picture, mirrored",
    "turned": "show one picture, turned or flipped",
}


def _in_words(leak: Finding) -> str:
    one, other = (f"{leak.filenames[i]} ({leak.splits[i]}, {leak.labels[i]})" for i in (0, 1))
    return f"{one} and {other} {_HOW[leak.how]}"


def _labelled(dataset: str) -> bool:
    """Return whether there are classes: not in a folder without folders."""
    path = Path(dataset).expanduser()
    return not os.path.isdir(path) or bool(read_layout(path).classes)
