"""Transform: how images are brought to the network, settled once for training, evaluation and serving."""

from kcnn.data.ingestion.summary import check_trainable
from kcnn.models.spec import model_spec
from kcnn.training.adaptation import choose_preprocessing
from pipelines.artifacts import Examples, Schema, TransformGraph
from pipelines.engine.component import Output, component


@component
def transform(
    model: str, image_size: int | None, examples: Examples, schema: Schema, transform_graph: Output[TransformGraph]
) -> None:
    """Settles size and crop by the images and the network, and writes them as a graph too. No image is read. What no
    classifier can be trained on is refused here, with a page on it made by then.
    """
    summary = examples.summary()
    check_trainable(summary)
    spec = choose_preprocessing(model_spec(model), summary, image_size)
    transform_graph.write(spec, summary.labels, schema.read())
    height, width = spec.image_size
    print(f"Images become {width}x{height}, {spec.resize_mode} {spec.crop_fraction:g}, {spec.interpolation}")
