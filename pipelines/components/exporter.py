"""Exporter: a trained network becomes what is served: calibrated, made fast, with its preprocessing inside."""

from kcnn.data.examples import first_images
from kcnn.evaluation.calibration import fit_temperature, validation_logits
from kcnn.progress import clock
from kcnn.serving.export.classifier import CALIBRATION, SAMPLES, export_classifier
from kcnn.training.network import inference_network
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.serving import Model
from pipelines.artifacts.training import ModelRun
from pipelines.artifacts.transform import TransformGraph
from pipelines.engine.component import Output, component
from pipelines.entries import network_entries


@component(entries=lambda model_run, **_: network_entries(model_run.config().model))
def exporter(
    optimize_for: str,
    formats: list[str],
    examples: Examples,
    transform_graph: TransformGraph,
    model_run: ModelRun,
    model: Output[Model],
) -> None:
    """Fit the temperature on the validation images, and export the network.

    Args:
        optimize_for: what the export is made for, one of `OPTIMIZE_FOR` of `kcnn.serving.export.classifier`.
        formats: what it is written as; formats in whole numbers are calibrated on training images.
        examples: the images.
        transform_graph: how images are brought to the network.
        model_run: the trained network.
        model: what is made.
    """
    settings, summary = model_run.config(), examples.summary()
    preprocessing = transform_graph.preprocessing()
    val, train = examples.shards("val"), examples.shards("train")
    with clock("Exporting"):
        network = inference_network(settings, len(summary.labels), preprocessing.image_size, model_run.weights)
        exported = export_classifier(
            network,
            model.serving,
            summary.labels,
            preprocessing,
            optimize_for=optimize_for,
            formats=formats,
            temperature=fit_temperature(*validation_logits(network, val, preprocessing)),
            samples=list(first_images(val or train, SAMPLES)),
            calibration=first_images(train, CALIBRATION),  # not read where no format wants it
            run={"model": settings.model, "config": settings.to_dict(), "weights": model_run.training()["weights"]},
        )
    model.write(exported)
