"""A training in processes that are killed, for `test_survival.py`: each is forked from one that has loaded TensorFlow.

    python killed_training.py FOLDER KILLS

FOLDER has the facts of TrainingData in `data.json`. KILLS is a JSON list of [folder, [kill, ...]]: in each folder of
FOLDER, a process trains for each kill, and one more to the end. A kill is ["step", n], after n steps of the process, or
["replace", n], at its n-th renaming of a file.
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras

from kcnn.config import Config, Phase
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.nn.normalization import BatchNorm
from kcnn.training import epoch_end, trainer
from kcnn.training.run import TrainingData

PHASES = (
    Phase("head", epochs=1, learning_rate=3e-3, unfreeze=0, augmentations=("flip",)),
    Phase("all", epochs=2, learning_rate=3e-3, crop_scale=(0.8, 1.0), augmentations=("flip", "cutmix")),
)
CONFIG = Config(recipe="test", phases=PHASES, batch_size=64, patience=50, ema=0.9, deterministic=True)


def network():
    """Build a network with batch norm and dropout, whose draws follow from a state."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem_conv")(x)
    x = keras.layers.ReLU(name="stem_act")(BatchNorm(name="stem_norm")(x))
    x = keras.layers.Flatten(name="head_flatten")(x)
    x = keras.layers.Dropout(0.3, name="head_dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))


def kill_at(kind, number):
    """Let this process end itself there, as a kill from outside does."""
    calls = []

    def killing(function):
        def call(*arguments, **options):
            calls.append(None)
            if len(calls) == number and kind == "replace":
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if kind == "replace":
        os.replace = killing(os.replace)
    else:
        epoch_end.EpochEnd.on_train_batch_end = killing(epoch_end.EpochEnd.on_train_batch_end)


def train(data, folder, kill):
    """Train in a child process; return whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    epoch_end.EpochEnd.STATE_SECONDS, epoch_end.EpochEnd.STATE_SHARE = 0.0, float("inf")  # save each step
    if kill is not None:
        kill_at(*kill)
    trainer.train(CONFIG, data, network, folder)
    os._exit(0)


def main():
    folder = Path(sys.argv[1])
    facts = json.loads((folder / "data.json").read_text())
    data = TrainingData(**facts, preprocessing=Preprocessing((8, 8), crop_fraction=1.0))
    for name, kills in json.loads(sys.argv[2]):
        for kill in kills:
            assert not train(data, folder / name, kill), f"{name}: {kill} comes after the end"
        assert train(data, folder / name, None), name


if __name__ == "__main__":
    main()
