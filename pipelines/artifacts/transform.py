"""What Transform makes."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from kcnn.json_files import read_json
from pipelines.engine.component import Artifact

if TYPE_CHECKING:
    from kcnn.data.input_pipeline.transform import Preprocessing


class TransformGraph(Artifact):
    """How images are brought to the network; `tensorflow_transform.TFTransformOutput` reads it.

    <path>/preprocessing.json                   the same as data, for Trainer
    <path>/transform_fn/                        a SavedModel: the features of tf.Examples → image and label
    <path>/transformed_metadata/schema.pbtxt    what it makes
    <path>/metadata/schema.pbtxt                what it takes

    `kcnn.data.input_pipeline.transform_graph` writes all but the first, and TensorFlow Transform alone reads them.
    """

    derived = ("transform_fn",)
    head = "data"

    def write_preprocessing(self, preprocessing: "Preprocessing") -> None:
        """Write preprocessing.json."""
        (self.path / "preprocessing.json").write_text(json.dumps(dataclasses.asdict(preprocessing), indent=2) + "\n")

    def preprocessing(self) -> "Preprocessing":
        """Read preprocessing.json."""
        from kcnn.data.input_pipeline.transform import Preprocessing

        return Preprocessing(**read_json(self.path / "preprocessing.json"))

    def properties(self) -> dict[str, Any]:
        """Return what preprocessing.json holds."""
        return dataclasses.asdict(self.preprocessing())
