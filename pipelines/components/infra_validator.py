"""InfraValidator: the export, in a program that has only TensorFlow, answers held-out files as the evaluation did."""

from kcnn.data.examples import first_images
from kcnn.progress import clock
from kcnn.serving.formats.parity import measure_parity
from kcnn.serving.validation.saved_model import validate_export
from kcnn.terminal import print_lines
from pipelines.artifacts.blessing import InfraBlessing
from pipelines.artifacts.evaluation import ModelEvaluation
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.serving import Model
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
    """Ask every signature of the export, and every other format by its own runtime.

    Args:
        serving_image: the image of TensorFlow Serving that Docker has, which is asked too; None where it has none.
        max_latency_ms: what a request of one image may take, in milliseconds; None for no limit.
        max_memory_mb: what serving may take, in MiB; None for no limit.
        examples: the files to ask for.
        model: the export.
        evaluation: what it answered in the evaluation.
        blessing: what is made.
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
        print_lines(*(check.said for check in checks if check.name == "tensorflow_serving"))
    blessing.write(checks, facts)
