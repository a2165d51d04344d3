"""Keras' guide to fine-tuning, with EfficientNet-Lite0 in the place of EfficientNet-B0.

https://keras.io/examples/vision/image_classification_efficientnet_fine_tuning: a new head for 25 epochs, then the last
20 layers, batch norm excepted, for 4 epochs; its rates, its augmentations, its batches of 64 images of 224 pixels.

    python keras_guide.py FOLDER SEED
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import kcnn

SIZE = 224


def main() -> None:
    """Print how many test images it gets right."""
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    keras.utils.set_random_seed(seed)

    def read(part: str, shuffle: bool) -> tf.data.Dataset:
        return keras.utils.image_dataset_from_directory(
            folder / part,
            label_mode="categorical",
            batch_size=64,
            image_size=(SIZE, SIZE),
            shuffle=shuffle,
            seed=seed,
            verbose=False,
        )

    train, test = read("train", True), read("test", False)
    classes = len(train.class_names)
    augmentations = [
        keras.layers.RandomRotation(0.15),
        keras.layers.RandomTranslation(0.1, 0.1),
        keras.layers.RandomFlip(),
        keras.layers.RandomContrast(0.1),
    ]

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for layer in augmentations:
            images = layer(images)
        return images, labels

    train = train.cache().map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    network = kcnn.create_model("efficientnetlite0", weights="imagenet")
    base = keras.Model(network.input, network.get_layer("head_pool").output)
    base.trainable = False
    head = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(base.output))
    model = keras.Model(base.input, keras.layers.Dense(classes, activation="softmax")(head))
    model.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy")
    model.fit(train, epochs=25, verbose=0)
    base.trainable = True
    for index, layer in enumerate(model.layers):
        layer.trainable = index >= len(model.layers) - 20 and not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(1e-5), "categorical_crossentropy")
    model.fit(train, epochs=4, verbose=0)
    answers = np.argmax(model.predict(test, verbose=0), axis=1)
    labels = np.concatenate([np.argmax(each, axis=1) for _, each in test.as_numpy_iterator()])
    print(json.dumps({"correct": int((answers == labels).sum()), "tests": len(labels)}))


if __name__ == "__main__":
    main()
