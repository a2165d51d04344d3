"""InfraValidator: the export, in a program that has only TensorFlow, answers held-out files as the evaluation did."""

from kcnn.data.examples import first_images
from kcnn.progress import clock
from kcnn.serving.formats.parity import measure_parity
from kcnn.serving.validation.saved_model import validate_export
from pipelines.artifacts import Examples, InfraBlessing, Model, ModelEvaluation
from pipelines.engine.component import Output, component

FILES = 64


@component
def infra_validator(
    serving_image: str | None,
    max_latency_ms: float | None,
    max_memory_mb: float | None,
    examples: Examples,
    model: Model,
    evaluation: ModelEvaluation,
    blessing: Output[InfraBlessing],
) -> None:
    """Asks every signature of the export; in TensorFlow Serving too where Docker has it, as `serving_image`; and every
    other format, each by its own runtime.
    """
    shards = examples.shards("test")
    encoded = list(first_images(shards, FILES))
    with clock(
        "Checking the export in a process that has only TensorFlow" + " and in TensorFlow Serving" * bool(serving_image)
    ):
        facts, checks = validate_export(
            model.serving,
            encoded,
            evaluation.probabilities()[: len(encoded)],
            examples.summary().labels,
            max_latency_ms=max_latency_ms,
            max_memory_mb=max_memory_mb,
            serving_image=serving_image,
        )
    formats = model.exported()["export"]["formats"]
    if len(formats) > 1:
        with clock(f"Checking {', '.join(formats)} on the test images"):
            compared, more = measure_parity(model.serving, shards, evaluation.probabilities())
        facts, checks = {**facts, "formats": compared}, [*checks, *more]
    if serving_image:
        print(*(check.said for check in checks if check.name == "tensorflow_serving"))
    blessing.write(checks, facts)
