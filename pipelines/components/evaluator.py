"""Evaluator: the exported model itself on the held-out test split."""

from kcnn.evaluation.evaluate import evaluate_export
from kcnn.evaluation.report import write_report
from pipelines.artifacts import Examples, Model, ModelEvaluation
from pipelines.component import Output, component


@component
def evaluator(examples: Examples, model: Model, evaluation: Output[ModelEvaluation]) -> None:
    """Metrics, tables and the confusion matrix."""
    result = evaluate_export(model.serving, examples.shards("test"), total=examples.summary().total("test"))
    write_report(evaluation.report, result)
    evaluation.write_probabilities(result.probabilities)
