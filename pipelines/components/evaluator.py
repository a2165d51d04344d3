"""Evaluator: the exported model itself on the held-out test split, and whether that is good enough to be published."""

from kcnn.checks import Check
from kcnn.errors import UserError
from kcnn.evaluation.evaluate import Evaluation, correct_answers, evaluate_export
from kcnn.evaluation.gate import LEVEL, Baseline, check_accuracy, check_not_worse, commonest_class_warning
from kcnn.evaluation.results import write_evaluation
from pipelines.artifacts import Examples, Model, ModelBlessing, ModelEvaluation
from pipelines.engine.component import Output, component


@component(ignored=("baseline",))
def evaluator(
    baseline: str | None,
    baseline_digest: str,
    min_accuracy: float,
    min_slice_accuracy: float,
    examples: Examples,
    model: Model,
    evaluation: Output[ModelEvaluation],
    blessing: Output[ModelBlessing],
) -> None:
    """Metrics, tables and the confusion matrix; and the comparison with `baseline`, the last version that was pushed,
    whose files `baseline_digest` stands for.
    """
    paths, total = examples.shards("test"), examples.summary().total("test")
    result = evaluate_export(model.serving, paths, total=total)
    metrics = write_evaluation(evaluation.report, result)
    evaluation.write_probabilities(result.probabilities)
    checks = check_accuracy(result.correct, result.attributes, min_accuracy, min_slice_accuracy)
    checks += _against_baseline(baseline, paths, total, result)
    warning = commonest_class_warning(result.labels, result.class_names, metrics["top1"])
    warnings = [warning] if warning else []
    compared = {"baseline": baseline, "baseline_digest": baseline_digest, "level": LEVEL}
    blessing.write(checks, {**compared, "warnings": warnings})


def _against_baseline(baseline: str | None, paths: list[str], total: int, result: Evaluation) -> list[Check]:
    if baseline is None:
        return [Check("not_worse", None, "nothing was pushed before: there is no model to compare with")]
    try:
        correct = correct_answers(baseline, paths, result.class_names, total=total)
    except UserError as error:
        return [Check("not_worse", None, f"not compared with {baseline}, the last that was pushed: {error}")]
    return check_not_worse(result.correct, result.attributes, Baseline(baseline, correct))
