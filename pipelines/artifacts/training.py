"""What Trainer and Pretrainer make."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn.config import Config
from kcnn.content import sha256
from kcnn.json_files import read_json, read_small_text
from pipelines.engine.component import Artifact

# What `kcnn.training.trainer.train` leaves beside the artifact's own files: the state that an interrupted run goes on
# from, the best weights of the phase under way and of those before it, and the features of a frozen backbone.
_STATE = (
    "state.safetensors",
    "state-before.safetensors",
    "best.safetensors",
    "last.safetensors",
    "before.safetensors",
    "features-*.npy",
)


class ModelRun(Artifact):
    """A trained network, and how it was trained.

    <path>/weights.safetensors  the weights of the best epoch
    <path>/config.json          the Config that trained it
    <path>/training.json        history, where the weights came from, preprocessing, hours
    <path>/logs/                TensorBoard
    """

    scratch = _STATE
    head = "metrics"
    shown = ("weights", "epochs", "seconds")

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / "weights.safetensors"

    def write(self, config: Config, training: Mapping[str, Any]) -> None:
        """Write a training that has ended in the folder; it may be written again.

        Args:
            config: what trained the network.
            training: what training.json is to hold, JSON-able.
        """
        (self.path / "config.json").write_text(config.to_json())
        (self.path / "training.json").write_text(json.dumps(training, indent=2))
        best = self.path / "best.safetensors"
        if best.exists():  # not where an interruption came later than this
            best.replace(self.weights)

    def config(self) -> Config:
        """Read the Config that trained it."""
        return Config.from_json(read_small_text(self.path / "config.json"))

    def training(self) -> dict[str, Any]:
        """Read training.json."""
        return read_json(self.path / "training.json")

    def properties(self) -> dict[str, Any]:
        """Return what it started from, how long it trained, and the checksum of its weights."""
        training = self.training()
        facts = {name: training[name] for name in ("weights", "weights_loaded", "seconds", "best")}
        facts["weights_origin"] = training.get("weights_origin", {})  # not in what older versions trained
        return {**facts, "epochs": len(training["history"]), "sha256": sha256(self.weights)}


class Backbone(Artifact):
    """What pre-training leaves: weights without a classifier.

    <path>/backbone.safetensors  float16
    <path>/backbone.json         where they come from: command, commit, data, seed, hardware, hours, checksum
    <path>/logs/                 TensorBoard
    """

    scratch = _STATE
    head = "metrics"

    @property
    def weights(self) -> Path:
        """The weights file, which `kcnn.weights.save_backbone` writes."""
        return self.path / "backbone.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch with their head, while the folder is being made."""
        return self.path / "best.safetensors"

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Write where the weights come from, and their checksum."""
        text = json.dumps({**provenance, "sha256": sha256(self.weights)}, indent=2)
        (self.path / "backbone.json").write_text(text + "\n")

    def provenance(self) -> dict[str, Any]:
        """Read backbone.json."""
        return read_json(self.path / "backbone.json")

    def properties(self) -> dict[str, Any]:
        """Return what it learned, how well, and the checksum of the weights."""
        provenance = self.provenance()
        return {name: provenance[name] for name in ("objective", "classes", "validation_accuracy", "hours", "sha256")}
