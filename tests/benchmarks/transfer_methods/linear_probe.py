"""A linear classifier on frozen features: EfficientNet-Lite0 at 224 pixels, scikit-learn's logistic regression.

python linear_probe.py FOLDER SEED
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from image_files import list_images, read_image
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kcnn


def main() -> None:
    """Print how many test images it gets right."""
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    network = kcnn.create_model("efficientnetlite0", weights="imagenet")
    backbone = keras.Model(network.input, network.get_layer("head_logits").input)
    forward = tf.function(lambda images: backbone(images, training=False), reduce_retracing=True)

    def features(part: str) -> tuple[np.ndarray, np.ndarray]:
        paths, labels = list_images(folder / part)
        batches = (paths[begin : begin + 32] for begin in range(0, len(paths), 32))
        return np.concatenate([forward(np.stack([read_image(path, 224) for path in each])) for each in batches]), labels

    images, labels = features("train")
    folds = int(min(5, np.bincount(labels).min()))
    solver = LogisticRegressionCV(Cs=np.logspace(-5, 0, 6), cv=folds, max_iter=1000, random_state=seed)
    classifier = make_pipeline(StandardScaler(), solver).fit(images, labels)
    images, labels = features("test")
    print(json.dumps({"correct": int((classifier.predict(images) == labels).sum()), "tests": len(labels)}))


if __name__ == "__main__":
    main()
