"""Exporter: a trained network becomes what is served: calibrated, made fast, with its preprocessing inside."""

import dataclasses

from kcnn.data.examples import first_images
from kcnn.evaluation.calibration import fit_temperature, validation_logits
from kcnn.progress import clock
from kcnn.serving.export.classifier import CALIBRATION, SAMPLES, export_classifier
from kcnn.training.auxiliary import main_output
from kcnn.training.network import starting_network
from kcnn.weights import load_weights
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
        in_float32 = dataclasses.replace(settings, dtype="float32")
        height, _ = preprocessing.image_size
        network = main_output(starting_network(in_float32, len(summary.labels), height, weights=None)[0])
        load_weights(network, model_run.weights)
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
