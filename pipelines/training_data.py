"""Examples as training takes them."""

from typing import TYPE_CHECKING

from kcnn.training.run import TrainingData
from pipelines.artifacts.examples import Examples

if TYPE_CHECKING:
    from kcnn.data.input_pipeline.transform import Preprocessing


def training_data(examples: Examples, preprocessing: "Preprocessing") -> TrainingData:
    """Return what training reads of examples."""
    summary = examples.summary()
    return TrainingData(
        train=examples.shards("train"),
        val=examples.shards("val"),
        train_count=summary.total("train"),
        val_count=summary.total("val"),
        classes=len(summary.labels),
        mean_bytes=summary.mean_bytes,
        preprocessing=preprocessing,
    )
