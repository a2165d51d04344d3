"""Search for hyperparameters on the training and validation splits: Bayesian optimisation that stops hopeless trials.

A trial is stopped when it is among the worse half at a quarter or at half of its epochs (asynchronous successive
halving with a factor of 2: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020). The
proposals depend on the seed and the scores alone: an interrupted search repeats them from its journal and goes on.
"""

import dataclasses
import gc
import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kcnn.config import Config
from kcnn.data.ingestion.summary import Summary
from kcnn.errors import UserError
from kcnn.progress import bar, hidden
from kcnn.terminal import print_lines
from kcnn.training.auxiliary import without_auxiliary
from kcnn.training.distribution import choose_strategy
from kcnn.training.epoch_end import DivergedError
from kcnn.training.freezing import has_linear_head, is_frozen
from kcnn.training.hyperparameters import (
    SearchSpace,
    Values,
    get_hyperparameters,
    keras_tuner_config,
    replace_hyperparameters,
    search_space,
)
from kcnn.training.proposals import propose_values
from kcnn.training.run import TrainingData
from kcnn.training.state import Progress
from kcnn.training.trainer import train
from kcnn.training.trials import (
    Trial,
    best_trial,
    describe_values,
    plot_trials,
    read_trials,
    write_trials,
    write_trials_table,
)
from kcnn.weights import load_weights

RUNGS = (0.25, 0.5)  # the parts of a trial's epochs after which it may be stopped
LEAST_RIVALS = 3  # trials that must have come as far before one may be stopped

# Takes the scores of all epochs so far, and the seconds that they took.
Report = Callable[[Sequence[float], float], None]


class _HopelessError(Exception):
    """A trial is not worth going on with."""


def is_hopeless(scores: Sequence[float], done: Sequence[Trial], epochs: int) -> bool:
    """Return whether to stop a trial after these scores: at a rung where half of its rivals were better by then.

    Args:
        scores: of the trial's epochs so far.
        done: the trials that have ended.
        epochs: of a whole trial.
    """
    reached = len(scores)
    if reached not in {math.ceil(share * epochs) for share in RUNGS}:
        return False
    rivals = [max(trial.scores[:reached]) for trial in done if len(trial.scores) >= reached]
    return len(rivals) >= LEAST_RIVALS and max(scores) < statistics.median(rivals)


def expected_scores(done: Sequence[Trial]) -> list[float]:
    """Return the score that each trial would have come to.

    For a stopped trial it is its score and the median of what finished ones gained afterwards; for a trial that failed
    before an epoch was over, the worst score of the others.
    """

    def gain(reached: int) -> float:
        finished = [trial for trial in done if trial.ending == "finished"]
        return statistics.median(trial.score - max(trial.scores[:reached]) for trial in finished) if finished else 0.0

    worst = min((trial.score for trial in done if trial.scores), default=0.0)
    return [
        trial.score + gain(len(trial.scores)) if trial.ending == "stopped" else max(trial.score, worst)
        for trial in done
    ]


def run_trials(
    space: SearchSpace,
    own: Values,
    objective: Callable[[Values, Report], None],
    *,
    trials: int,
    epochs: int,
    seed: int,
    journal: Path,
) -> list[Trial]:
    """Try values, and print a line for each trial.

    Args:
        space: where to search.
        own: the values of the first trial.
        objective: called with a trial's values and a function to call after every epoch; it lets the exceptions of that
            function through.
        trials: how many.
        epochs: of a trial, at most.
        seed: of the proposals.
        journal: the file of the trials that have ended; those that it holds are not repeated.

    Returns:
        the trials, fewer where there are fewer values.

    Raises:
        UserError: every trial failed.
    """
    known, done = read_trials(journal), list[Trial]()
    with bar(total=trials * epochs, description="Tuning", unit="epoch") as steps:

        def run_trial(number: int, values: dict[str, Any]) -> Trial:
            start, scores, seconds = time.monotonic(), list[float](), 0.0

            def report(found: Sequence[float], spent: float) -> None:
                nonlocal seconds
                scores[:], seconds = found, spent
                steps.set_postfix_str(f"trial {number}: {found[-1]:.3f}", refresh=False)
                steps.update((number - 1) * epochs + len(scores) - steps.n)
                if is_hopeless(scores, done, epochs):
                    raise _HopelessError

            ending = "finished"
            try:
                objective(values, report)
            except _HopelessError:
                ending = "stopped"
            except (DivergedError, tf.errors.ResourceExhaustedError):
                ending = "failed"
            # An interrupted trial took some of its time in an earlier process.
            return Trial(number, values, scores, ending, round(max(seconds, time.monotonic() - start), 2))

        for number in range(1, trials + 1):
            tried = [trial.values for trial in done]
            values = propose_values(space, tried, expected_scores(done), seed) if done else dict(own)
            if values is None:
                break
            if known and known[0].values == values:
                trial = known.pop(0)
            else:
                known = []  # another version of a library proposed other values
                trial = run_trial(number, values)
            done.append(trial)
            if not known:
                write_trials(journal, done)
            steps.update(number * epochs - steps.n)
            left = (trials - number) * statistics.mean(each.seconds for each in done)
            steps.write(trial.message(trials, best_trial(done), left))
    if not any(trial.scores for trial in done):
        raise UserError(f"--tune: all of {len(done)} trials failed: try a lower --learning_rate or --batch_size")
    return done


def tune(
    config: Config,
    data: TrainingData,
    summary: Summary,
    build_model: Callable[[], keras.Model],
    directory: Path,
    *,
    trials: int,
) -> dict[str, Any]:
    """Search hyperparameters for the last phase of `config`; the phases before it train once.

    Args:
        config: how to train otherwise, adapted to the data.
        data: the training split is trained on, and the validation split judges.
        summary: of the data.
        build_model: makes the model with its starting weights.
        directory: receives `trials.jsonl`, `trials.csv`, `trials.png` and `tuner_results.json`. The trials that it
            holds already are not repeated.
        trials: how many.

    Returns:
        the search space and the best values, as `keras_tuner_config` returns them.

    Raises:
        UserError: there are no validation images, nothing is left to search, or every trial failed.
    """
    if not data.val_count:
        raise UserError("--tune: expected validation images, by which trials are judged; the data has none")
    space = search_space(config, summary, choose_strategy().num_replicas_in_sync)
    own = {name: value for name, value in get_hyperparameters(config).items() if name in space}
    last, work = config.phases[-1], directory / "work"
    if is_frozen(last) and has_linear_head(without_auxiliary(build_model())):
        raise UserError("--tune: a head on frozen features is solved, so there is nothing to search; see --transfer")
    begun = work / "before" / "best.safetensors"

    def model() -> keras.Model:
        network = build_model()
        if len(config.phases) > 1:
            load_weights(network, begun)
        return network

    def objective(values: Values, report: Report) -> None:
        def after_epoch(progress: Progress) -> None:
            report([epoch["val_accuracy"] for epoch in progress.history], progress.seconds)

        settings = replace_hyperparameters(config, values)
        settings = dataclasses.replace(settings, phases=settings.phases[-1:])
        folder = work / f"trial-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]}"
        for ended in work.glob("trial-*"):
            if ended != folder:  # an interrupted trial is continued in its folder
                shutil.rmtree(ended)
        try:
            with hidden():
                train(settings, data, model, folder, after_epoch=after_epoch)
        finally:
            keras.backend.clear_session()
            gc.collect()

    print_lines(f"Tuning {', '.join(space)} in {trials} trials of at most {last.epochs} epochs")
    if len(config.phases) > 1:
        train(dataclasses.replace(config, phases=config.phases[:-1]), data, build_model, begun.parent)
    done = run_trials(
        space,
        own,
        objective,
        trials=trials,
        epochs=last.planned_epochs,
        seed=config.seed,
        journal=directory / "trials.jsonl",
    )
    best = dict(best_trial(done).values)
    write_trials_table(directory / "trials.csv", done)
    plot_trials(directory / "trials.png", done, space)
    rows = [{"trial_id": str(trial.number), "score": trial.score, **trial.values} for trial in done]
    (directory / "tuner_results.json").write_text(json.dumps(rows))  # as TFX's Tuner writes it: pandas' records
    print_lines(f"Tuned: {describe_values(best)}")
    return keras_tuner_config(space, own, best)
