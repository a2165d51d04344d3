"""LabelAudit: labels that are probably wrong, by what the trained network sees. It changes and excludes nothing."""

import numpy as np

from kcnn.data.records import SPLITS
from kcnn.data.scan.findings import COPIES
from kcnn.data.scan.thumbnails import make_thumbnails
from kcnn.evaluation.embeddings import Embeddings, compute_embeddings
from kcnn.evaluation.label_errors import Audit, LabelError, audit_labels, group_copies
from kcnn.evaluation.label_page import pictured_files, render_label_page
from kcnn.training.network import inference_network
from pipelines.artifacts.audit import LabelErrors
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.scan import Findings
from pipelines.artifacts.training import ModelRun
from pipelines.artifacts.transform import TransformGraph
from pipelines.engine.component import Output, component
from pipelines.entries import network_entries


@component(entries=lambda model_run, **_: network_entries(model_run.config().model))
def label_audit(
    dataset: str,
    examples: Examples,
    findings: Findings,
    transform_graph: TransformGraph,
    model_run: ModelRun,
    errors: Output[LabelErrors],
) -> None:
    """Judge the labels of all images, copies of one another (`findings`) together; `dataset` is for the heading."""
    summary, settings, preprocessing = examples.summary(), model_run.config(), transform_graph.preprocessing()
    shards = {split: examples.shards(split) for split in SPLITS}
    kinds = {kind.name for kind in COPIES}
    copies = [finding.filenames for finding in findings.read().findings if finding.finding in kinds]

    def audited(weights: str, *, held_out: bool = False) -> tuple[Embeddings, Audit]:
        network = inference_network(settings, len(summary.labels), preprocessing.image_size, weights)
        total = sum(map(summary.total, SPLITS))
        with compute_embeddings(network, shards, total, preprocessing, errors.path / "features.npy") as seen:
            trained_on = np.array(seen.splits) == "train"
            groups = group_copies(seen.filenames, copies)
            asked = ~trained_on if held_out else None
            return seen, audit_labels(seen.features, seen.labels, groups, trained_on, asked)

    seen_by, start = "the trained network sees", model_run.training()["weights"]
    seen, audit = audited(str(model_run.weights))
    if audit.by_heart and start is not None:
        seen_by = "the weights see that training started from (the trained network knows its training images by heart)"
        seen, audit = audited(start)
    elif audit.by_heart:
        seen_by = "the trained network sees (which knows its training images by heart, so that only others are judged)"
        seen, audit = audited(str(model_run.weights), held_out=True)
    found = [
        LabelError(
            seen.filenames[doubt.index],
            seen.splits[doubt.index],
            summary.labels[doubt.given],
            summary.labels[doubt.suggested],
            doubt.score,
            doubt.confidence,
            doubt.wrong,
        )
        for doubt in audit.doubts
    ]
    pictures = make_thumbnails([path for paths in shards.values() for path in paths], pictured_files(found))
    errors.write(audit, seen_by, found, render_label_page(dataset, audit, seen_by, found, pictures))
