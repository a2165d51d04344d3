"""Gate: whether the evaluated model is good enough to be published. It asks no image."""

from kcnn.checks import Check
from kcnn.evaluation.gate import LEVEL, Baseline, check_accuracy, check_not_worse, commonest_class_warning
from pipelines.artifacts.blessing import ModelBlessing
from pipelines.artifacts.evaluation import BaselineAnswers, ModelEvaluation
from pipelines.engine.component import Output, component


@component(ignored=("baseline",))
def gate(
    baseline: str | None,
    min_accuracy: float,
    min_slice_accuracy: float,
    evaluation: ModelEvaluation,
    baseline_answers: BaselineAnswers,
    blessing: Output[ModelBlessing],
) -> None:
    """Judge an evaluation.

    Args:
        baseline: the folder of the last version that was pushed, for messages; None where there is none.
        min_accuracy: what the model must reach on the test images, from 0 to 1.
        min_slice_accuracy: what it must reach on every slice of them that is not too small, from 0 to 1.
        evaluation: what the model answered.
        baseline_answers: which answers of the baseline are right.
        blessing: what is made.
    """
    correct, attributes = evaluation.correct(), evaluation.attributes()
    checks = check_accuracy(correct, attributes, min_accuracy, min_slice_accuracy)
    right, reason = baseline_answers.correct(), baseline_answers.reason()
    if baseline is not None and right is not None:
        checks += check_not_worse(correct, attributes, Baseline(baseline, right))
    elif baseline is not None:
        checks.append(Check("not_worse", None, f"not compared with {baseline}, the last that was pushed: {reason}"))
    else:
        checks.append(Check("not_worse", None, "nothing was pushed before: there is no model to compare with"))
    warning = commonest_class_warning(evaluation.labels(), evaluation.class_names(), evaluation.metrics()["top1"])
    compared = {"baseline": baseline, "baseline_digest": baseline_answers.digest(), "level": LEVEL}
    blessing.write(checks, {**compared, "warnings": [warning] if warning else []})
