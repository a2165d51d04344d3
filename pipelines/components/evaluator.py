"""Evaluator: the exported model itself on the held-out test split, and the last pushed version on the same images."""

from kcnn.errors import UserError
from kcnn.evaluation.evaluate import correct_answers, evaluate_export
from kcnn.evaluation.results import write_evaluation
from pipelines.artifacts.evaluation import BaselineAnswers, ModelEvaluation
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.serving import Model
from pipelines.engine.component import Output, component


@component(ignored=("baseline",))
def evaluator(
    baseline: str | None,
    baseline_digest: str,
    examples: Examples,
    model: Model,
    evaluation: Output[ModelEvaluation],
    baseline_answers: Output[BaselineAnswers],
) -> None:
    """Measure; Gate judges.

    Args:
        baseline: the folder of the last version that was pushed; None where there is none.
        baseline_digest: of its files.
        examples: the images.
        model: the export.
        evaluation: what is made: metrics, tables, the confusion matrix and the answers.
        baseline_answers: what is made: which answers of the baseline are right.
    """
    paths, total = examples.shards("test"), examples.summary().total("test")
    result = evaluate_export(model.serving, paths, total=total)
    write_evaluation(evaluation.report, result)
    evaluation.write_answers(result.probabilities, result.labels, result.class_names, result.attributes)
    correct, reason = None, None
    if baseline is not None:
        try:
            correct = correct_answers(baseline, paths, result.class_names, total=total)
        except UserError as error:
            reason = str(error)
    baseline_answers.write(baseline_digest, correct, reason)
