"""InfraValidator: the export, in a program that has only TensorFlow, answers held-out files as the evaluation did."""

import itertools
import json

from kcnn.data import examples as records
from kcnn.serving.validate import check_in_fresh_process
from pipelines.artifacts import Examples, InfraBlessing, Model, ModelEvaluation
from pipelines.component import Output, component

FILES = 64


@component
def infra_validator(
    examples: Examples, model: Model, evaluation: ModelEvaluation, blessing: Output[InfraBlessing]
) -> None:
    """Raises DisagreementError, which ends the run before anything is published, when the answers differ."""
    serialized = itertools.islice(records.read(examples.shards("test")).as_numpy_iterator(), FILES)
    encoded = [records.parse(record)["encoded"].numpy() for record in serialized]
    expected = evaluation.probabilities()[: len(encoded)]
    print("Checking the export in a process that has only TensorFlow")
    difference = check_in_fresh_process(model.serving, encoded, expected)
    (blessing.path / "INFRA_BLESSED").write_text(
        json.dumps({"files": len(encoded), "largest_probability_difference": difference})
    )
