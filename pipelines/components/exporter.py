"""Exporter: a trained network becomes what is served: calibrated, made fast, with its preprocessing inside."""

from kcnn.data.examples import first_images
from kcnn.evaluation.calibration import fit_temperature, validation_logits
from kcnn.progress import clock
from kcnn.serving.export.classifier import CALIBRATION, SAMPLES, export_classifier
from kcnn.training.network import inference_network
from pipelines.artifacts import Examples, Model, ModelRun, TransformGraph
from pipelines.engine.component import Output, component


@component
def exporter(
    optimize_for: str,
    formats: list[str],
    examples: Examples,
    transform_graph: TransformGraph,
    model_run: ModelRun,
    model: Output[Model],
) -> None:
    """Fits the temperature on the validation images, and exports the network `optimize_for` a purpose in all `formats`,
    those in whole numbers calibrated on training images.
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
