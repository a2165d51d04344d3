"""Search for hyperparameters on the training and validation splits: Bayesian optimisation that stops hopeless trials.

A trial is stopped when it is among the worse half at a quarter or at half of its epochs (asynchronous successive
halving with a factor of 2: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020). What is
proposed follows from the seed and the scores: an interrupted search goes on by being told what is known.
"""

import dataclasses
import gc
import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kcnn.config import Config
from kcnn.data.ingestion.summary import Summary
from kcnn.errors import UserError
from kcnn.progress import bar, hidden
from kcnn.training import trials as records
from kcnn.training.distribution import choose_strategy
from kcnn.training.hyperparameters import Ranges, keras_tuner_config, own_values, ranges_for, with_values
from kcnn.training.proposals import propose
from kcnn.training.state import Progress
from kcnn.training.trainer import Data, DivergedError, train
from kcnn.training.trials import Trial, in_words
from kcnn.weights import load_weights

RUNGS = (0.25, 0.5)  # parts of a trial's epochs
LEAST_RIVALS = 3  # that have come as far, before a trial may be stopped


class _HopelessError(Exception):
    """A trial is not worth going on with."""


def hopeless(scores: Sequence[float], done: Sequence[Trial], epochs: int) -> bool:
    """Whether to stop a trial after these scores: at a rung, where half of the rivals were better by then."""
    reached = len(scores)
    if reached not in {math.ceil(share * epochs) for share in RUNGS}:
        return False
    rivals = [max(trial.scores[:reached]) for trial in done if len(trial.scores) >= reached]
    return len(rivals) >= LEAST_RIVALS and max(scores) < statistics.median(rivals)


def expected_scores(done: Sequence[Trial]) -> list[float]:
    """What the trials would have come to: of a stopped one, its score and what finished ones gained afterwards (their
    median); of one that failed before an epoch was over, the worst of the others.
    """

    def gain(reached: int) -> float:
        finished = [trial for trial in done if trial.ending == "finished"]
        return statistics.median(trial.score - max(trial.scores[:reached]) for trial in finished) if finished else 0.0

    worst = min((trial.score for trial in done if trial.scores), default=0.0)
    return [
        trial.score + gain(len(trial.scores)) if trial.ending == "stopped" else max(trial.score, worst)
        for trial in done
    ]


def search(
    ranges: Ranges,
    own: Mapping[str, Any],
    objective: Callable[[Mapping[str, Any], Callable[[Sequence[float]], None]], None],
    *,
    trials: int,
    epochs: int,
    seed: int,
    journal: Path,
) -> list[Trial]:
    """Tries values; prints a line for each trial.

    Args:
        ranges: where to search.
        own: the values of the first trial.
        objective: called with a trial's values and a function that it is to call after every epoch with the scores of
            all epochs so far, and whose exceptions it lets through.
        trials: how many.
        epochs: of a trial, at most.
        seed: of the proposals.
        journal: keeps the trials that have ended, and those that it holds are not repeated.

    Returns:
        the trials, fewer where there are fewer values.

    Raises:
        UserError: every trial failed.
    """
    known, done = records.read(journal), list[Trial]()
    with bar(total=trials * epochs, description="Tuning", unit="epoch") as steps:

        def run(number: int, values: dict[str, Any]) -> Trial:
            start, scores = time.monotonic(), list[float]()

            def report(found: Sequence[float]) -> None:
                scores[:] = found
                steps.set_postfix_str(f"trial {number}: {found[-1]:.3f}", refresh=False)
                steps.update((number - 1) * epochs + len(scores) - steps.n)
                if hopeless(scores, done, epochs):
                    raise _HopelessError

            ending = "finished"
            try:
                objective(values, report)
            except _HopelessError:
                ending = "stopped"
            except (DivergedError, tf.errors.ResourceExhaustedError):
                ending = "failed"
            return Trial(number, values, scores, ending, round(time.monotonic() - start, 2))

        for number in range(1, trials + 1):
            tried = [trial.values for trial in done]
            values = propose(ranges, tried, expected_scores(done), seed) if done else dict(own)
            if values is None:
                break
            if known and known[0].values == values:
                trial = known.pop(0)
            else:
                known = []  # of other proposals than these: another version of a library made them
                trial = run(number, values)
            done.append(trial)
            if not known:
                records.write(journal, done)
            steps.update(number * epochs - steps.n)
            left = (trials - number) * statistics.mean(each.seconds for each in done)
            steps.write(trial.told(trials, records.best(done), left))
    if not any(trial.scores for trial in done):
        raise UserError(f"--tune: all of {len(done)} trials failed: try a lower --learning_rate or --batch_size")
    return done


def tune(
    config: Config,
    data: Data,
    summary: Summary,
    build_model: Callable[[], keras.Model],
    directory: Path,
    *,
    trials: int,
) -> dict[str, Any]:
    """Searches hyperparameters for the last phase of `config`; the phases before it train once.

    Args:
        config: what to train otherwise, suited to the data.
        data: of which the training split is trained on and the validation split judges.
        summary: of the data.
        build_model: makes the model with its starting weights.
        directory: receives `trials.jsonl`, `trials.csv`, `trials.png` and `tuner_results.json`. What is in it already
            is taken as done.
        trials: how many.

    Returns:
        space and best values, as `keras_tuner_config` has them.

    Raises:
        UserError: there are no validation images, or nothing to search.
    """
    if not data.val_count:
        raise UserError("--tune: expected validation images, by which trials are judged; the data has none")
    ranges = ranges_for(config, summary, choose_strategy().num_replicas_in_sync)
    own = {name: value for name, value in own_values(config).items() if name in ranges}
    last, work = config.phases[-1], directory / "work"
    begun = work / "before" / "best.safetensors"

    def model() -> keras.Model:
        network = build_model()
        if len(config.phases) > 1:
            load_weights(network, begun)
        return network

    def objective(values: Mapping[str, Any], report: Callable[[Sequence[float]], None]) -> None:
        def after_epoch(progress: Progress) -> None:
            report([epoch["val_accuracy"] for epoch in progress.history])

        settings = with_values(config, values)
        settings = dataclasses.replace(settings, phases=settings.phases[-1:])
        folder = work / f"trial-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]}"
        for ended in work.glob("trial-*"):
            if ended != folder:  # which an interruption may have left, to be gone on with
                shutil.rmtree(ended)
        try:
            with hidden():
                train(settings, data, model, folder, after_epoch=after_epoch)
        finally:
            keras.backend.clear_session()
            gc.collect()

    print(f"Tuning {', '.join(ranges)} in {trials} trials of at most {last.epochs} epochs")
    if len(config.phases) > 1:
        train(dataclasses.replace(config, phases=config.phases[:-1]), data, build_model, begun.parent)
    done = search(
        ranges,
        own,
        objective,
        trials=trials,
        epochs=last.epochs,
        seed=config.seed,
        journal=directory / "trials.jsonl",
    )
    best = dict(records.best(done).values)
    shutil.rmtree(work, ignore_errors=True)
    records.write_table(directory / "trials.csv", done)
    records.plot(directory / "trials.png", done, ranges)
    rows = [{"trial_id": str(trial.number), "score": trial.score, **trial.values} for trial in done]
    (directory / "tuner_results.json").write_text(json.dumps(rows))  # as TFX's Tuner writes it: pandas' records
    print(f"Tuned: {in_words(best)}")
    return keras_tuner_config(ranges, own, best)
