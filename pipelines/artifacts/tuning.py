"""What Tuner makes."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn.json_files import read_json
from pipelines.engine.component import Artifact


class HyperParameters(Artifact):
    """What a search chose.

    <path>/best_hyperparameters.txt   JSON of `keras_tuner.HyperParameters.get_config()`: space and values
    """

    head = "configuration"

    def write(self, config: Mapping[str, Any]) -> None:
        """Write space and values, as `kcnn.training.hyperparameters.keras_tuner_config` returns them."""
        (self.path / "best_hyperparameters.txt").write_text(json.dumps(config))

    def values(self) -> dict[str, Any]:
        """Read the values by name, as `kcnn.training.hyperparameters` takes them."""
        return read_json(self.path / "best_hyperparameters.txt")["values"]

    def properties(self) -> dict[str, Any]:
        """Return the values."""
        return self.values()


class TunerResults(Artifact):
    """The trials of a search, which `kcnn.training.tuning` writes as they end.

    <path>/trials.csv           a trial a row: validation accuracy, how it ended, epochs, seconds, values
    <path>/trials.png           validation accuracy against each hyperparameter
    <path>/trials.jsonl         a trial a line, with the scores of every epoch
    <path>/tuner_results.json   trial_id, score and values, as TFX's Tuner writes them
    <path>/work/                scratch: what an interrupted search goes on from
    """

    scratch = ("work",)

    @property
    def journal(self) -> Path:
        """The file that keeps trials as they end."""
        return self.path / "trials.jsonl"

    def properties(self) -> dict[str, Any]:
        """Return how many trials there were, how they ended, the best one's score and that of the recipe's values."""
        from kcnn.training.trials import best_trial, read_trials

        done = read_trials(self.journal)
        best = best_trial(done)
        return {
            "trials": len(done),
            "endings": Counter(trial.ending for trial in done),
            "best_trial": best.number,
            "best": best.score,
            "own": done[0].score,
        }
