"""LabelAudit: which labels are probably wrong, by what the trained network sees. It changes and excludes nothing."""

import numpy as np

from kcnn.data.records import SPLITS
from kcnn.data.scan.findings import COPIES
from kcnn.data.scan.thumbnails import make_thumbnails
from kcnn.evaluation import label_errors, label_page
from kcnn.evaluation.embeddings import Embeddings, embedded
from kcnn.models.factory import create_model
from kcnn.weights import load_weights
from pipelines.artifacts import Examples, Findings, LabelErrors, ModelRun, TransformGraph
from pipelines.engine.component import Output, component


@component
def label_audit(
    dataset: str,
    examples: Examples,
    findings: Findings,
    transform_graph: TransformGraph,
    model_run: ModelRun,
    errors: Output[LabelErrors],
) -> None:
    """Judges the labels of all images, copies of one another (`findings`) together; `dataset` is for the heading."""
    summary, settings, preprocessing = examples.summary(), model_run.config(), transform_graph.preprocessing()
    shards = {split: examples.shards(split) for split in SPLITS}
    kinds = {kind.name for kind in COPIES}
    copies = [finding.filenames for finding in findings.read().findings if finding.finding in kinds]

    def audited(weights: str, *, held_out: bool = False) -> tuple[Embeddings, label_errors.Audit]:
        network = create_model(settings.model, len(summary.labels), preprocessing.image_size, **settings.design)
        load_weights(network, weights)
        total = sum(map(summary.total, SPLITS))
        with embedded(network, shards, total, preprocessing, errors.path / "features.npy") as seen:
            trained_on = np.array(seen.splits) == "train"
            groups = label_errors.group(seen.filenames, copies)
            asked = ~trained_on if held_out else None
            return seen, label_errors.audit(seen.features, seen.labels, groups, trained_on, asked)

    seen_by, start = "the trained network sees", model_run.training()["weights"]
    seen, audit = audited(str(model_run.weights))
    if audit.by_heart and start is not None:
        seen_by = "the weights see that training started from (the trained network knows its training images by heart)"
        seen, audit = audited(start)
    elif audit.by_heart:
        seen_by = "the trained network sees (which knows its training images by heart, so that only others are judged)"
        seen, audit = audited(str(model_run.weights), held_out=True)
    found = [
        label_errors.LabelError(
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
    pictures = make_thumbnails([path for paths in shards.values() for path in paths], label_page.shown(found))
    errors.write(audit, seen_by, found, label_page.page(dataset, audit, seen_by, found, pictures))
