"""The preview: a picture of what a training would show to its network."""

import dataclasses
from pathlib import Path

from kcnn.config import Config
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.data.ingestion.summary import check_trainable
from kcnn.data.input_pipeline.batches import training_batches
from kcnn.data.input_pipeline.preview import draw_batch
from kcnn.errors import UserError
from kcnn.models.factory import create_model
from kcnn.models.spec import model_spec
from kcnn.terminal import print_lines
from kcnn.training.adaptation import adapt_phase, choose_preprocessing
from kcnn.training.phase_data import training_size
from pipelines.artifacts.examples import Examples
from pipelines.components.example_gen import example_gen
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.preflight import (
    check_apart,
    check_classes,
    check_names,
    check_writable,
    leave_out,
    settle_dataset,
    settle_weights,
)
from pipelines.training_data import training_data


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreviewJob(Job):
    """A call of the pipeline.

    Attributes:
        config: how would be trained, and on what.
        output: the PNG to write.
        images: how many to draw.
    """

    config: Config
    output: str
    images: int


def run(job: PreviewJob) -> Path | None:
    """Make the examples, where there are none, and draw the first images of the last phase's training.

    Returns:
        the picture; None where the part of the pipeline that was asked for makes no examples.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
    """
    config, output = settle_dataset(job.config), Path(job.output)
    if output.suffix.lower() != ".png":
        raise UserError(f"--output {output}: expected a PNG, such as preview.png")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: expected a file in a folder that exists")
    check_writable("--output", output.absolute().parent)
    check_writable("--pipeline_root", Path(job.pipeline_root))
    check_apart("--pipeline_root", Path(job.pipeline_root), config.dataset)
    check_apart("--output", output, config.dataset)
    dataset = open_dataset(config.dataset, data_dir=config.data_dir, offline=config.offline)
    check_classes(config.dataset, dataset)
    dataset = leave_out(dataset, job.exclude)
    check_names(config)
    config, weights = settle_weights(config)
    examples = example_gen(
        dataset=config.dataset,
        data_dir=config.data_dir,
        offline=config.offline,
        fingerprint=dataset.fingerprint,
        labelled=True,
        exclude=job.exclude,
        exclude_digest=exclusions.digest_exclusions(job.exclude),
        beam=job.beam,
    ).outputs["examples"]
    made = run_graph(job, [examples.node], pipeline="preview", goal="ExampleGen")
    return draw(config, weights, made["ExampleGen"]["examples"], output, job.images) if made is not None else None


def draw(config: Config, weights: str | None, examples: Examples, output: Path, images: int) -> Path:
    """Draw the first training images of the last phase, print what they are, and return the file's path."""
    summary = examples.summary()
    check_trainable(summary)
    spec = model_spec(config.model)
    phase = adapt_phase(config.phases[-1], summary)
    preprocessing = choose_preprocessing(spec, summary, config.image_size, weights)
    network = create_model(config.model, len(summary.labels), preprocessing.image_size, **config.design)
    height, width = training_size(preprocessing.image_size, phase.size_ratio, network, spec.min_size)
    data = training_data(examples, dataclasses.replace(preprocessing, image_size=(height, width)))
    batches = training_batches(
        data.training_shards,
        num_classes=data.classes,
        batch_size=images,
        preprocessing=data.preprocessing,
        augmentations=phase.augmentations,
        crop_scale=phase.crop_scale,
        seed=config.seed,
        epochs=range(1),
    )
    drawn, labels = next(batches.as_numpy_iterator())
    draw_batch(drawn, labels, summary.labels, output)
    print_lines(
        f"Preview of {spec.name} at {width}x{height}, augmentations: {','.join(phase.augmentations) or 'none'}",
        f"Picture: {output}",
    )
    return output
