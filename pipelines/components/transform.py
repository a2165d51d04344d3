"""Transform: how images are brought to the network, decided once for training, evaluation and serving."""

from kcnn.data.ingestion.summary import check_trainable
from kcnn.data.input_pipeline.transform_graph import write_transform_graph
from kcnn.models.spec import model_spec
from kcnn.terminal import print_lines
from kcnn.training.adaptation import choose_preprocessing
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.transform import TransformGraph
from pipelines.artifacts.validation import Schema
from pipelines.engine.component import Output, component
from pipelines.entries import network_entries


@component(entries=lambda model, **_: network_entries(model))
def transform(
    model: str,
    image_size: int | None,
    examples: Examples,
    schema: Schema,
    transform_graph: Output[TransformGraph],
    weights: str | None = None,
) -> None:
    """Choose size and crop by the images, the network and its first weights, and write them as a graph too.

    No image is read.

    Raises:
        UserError: no classifier can be trained on the data. It is raised here, when there is a page on them.
    """
    summary = examples.summary()
    check_trainable(summary)
    spec = choose_preprocessing(model_spec(model), summary, image_size, weights)
    transform_graph.write_preprocessing(spec)
    write_transform_graph(transform_graph.path, spec, summary.labels, schema.read())
    height, width = spec.image_size
    print_lines(f"Images become {width}x{height}, {spec.resize_mode} {spec.crop_fraction:g}, {spec.interpolation}")
