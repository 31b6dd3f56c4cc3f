"""The third origin's four test networks, on images standardised one by one: summaries, validation, filters and maps.

In the origin's networks with dropout only the last layer learned: dropout zeroed the gradient of the layers before it.
"""

import argparse
import time

import numpy as np
import sources

import xpcnn
from xpcnn import layers, optimizers, plots
from xpcnn.formats import cnn_json

#: The number of parameters of each network, and the validation accuracy that the origin reached with it.
PARAMETERS = (54_170, 93_418, 10_026, 74_778)
ORIGIN_ACCURACY = (0.63, 0.818, 0.762, 0.61)
#: Training images, validation images, and the learning rate of Adam.
TRAINING = ((1000, 100, 0.01), (10_000, 500, 0.01), (5000, 500, 0.001), (10_000, 500, 0.001))
OPTIMIZERS = {
    "adam": optimizers.Adam,
    "sgd": optimizers.SGD,
    "momentum": lambda rate: optimizers.SGD(rate, momentum=0.9),
}


def networks():
    """Return the layers of the four networks, without the last layer."""
    relu = {"activation": "relu"}
    return (
        [layers.Conv2D(8, 3, **relu), layers.Flatten()],
        [layers.Conv2D(8, 3, **relu), layers.Conv2D(16, 3, **relu), layers.Flatten()],
        [
            layers.Conv2D(4, 3, **relu), layers.MaxPool2D(2), layers.Conv2D(8, 3, **relu), layers.Dropout(0.2),
            layers.Flatten(),
        ],
        [
            layers.Conv2D(4, 3, **relu), layers.Conv2D(8, 3, **relu), layers.MaxPool2D(2), layers.Flatten(),
            layers.Dense(64, **relu), layers.Dropout(0.1),
        ],
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sources.add_arguments(parser, epochs=5)
    parser.add_argument("--show-every", type=int, default=1, metavar="N", help="print every N-th epoch")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--loss", choices=("cross_entropy", "mse"), default="cross_entropy")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    (x, y), (test_x, test_y) = sources.mnist_with_test(options.data)
    x, test_x = standardized(x), standardized(test_x)
    for number, stack in enumerate(networks()):
        count, validated, rate = TRAINING[number]
        count = min(count, options.images or count)
        model = xpcnn.Sequential([*stack, layers.Dense(10, activation="softmax")], (1, 28, 28), seed=options.seed)
        print(f"\ntest {number + 1}, {count:,} images")
        model.summary()
        assert sum(array.size for array in model.parameters.values()) == PARAMETERS[number]
        model.compile(OPTIMIZERS[options.optimizer](rate), options.loss, ["accuracy"])
        before = time.perf_counter()
        history = model.fit(
            x[:count],
            y[:count],
            epochs=options.epochs,
            validation_data=(test_x[:validated], test_y[:validated]),
            verbose=options.show_every,
            seed=options.seed,
        )
        seconds = (time.perf_counter() - before) / options.epochs
        accuracy = history.history["val_accuracy"][-1]
        print(f"validation accuracy {accuracy:.3f} (the origin: {ORIGIN_ACCURACY[number]}), {seconds:.2f} s per epoch")
        picture(plots.curves(history.history), options.out, number, "curves")
        picture(plots.filters(model.parameters["conv2d_1.weight"]), options.out, number, "filters")
        picture(plots.weights(model.parameters[f"dense_{1 + (number == 3)}.weight"]), options.out, number, "weights")
        picture(plots.feature_maps(model.activations(test_x[:1])), options.out, number, "maps")

    cnn_json.save(model, options.out / "four_small_networks_4.json")
    again = cnn_json.load(options.out / "four_small_networks_4.json")
    same = np.array_equal(again.predict(test_x[:100]), model.predict(test_x[:100]))
    print(f"\nsaved as JSON and loaded: {'the same predictions' if same else 'other predictions'}")
    tall = xpcnn.Sequential([layers.Upsample2D((1, 3))], (1, 28, 28)).predict(test_x[:1])
    picture(plots.samples(tall, ["three times as wide"]), options.out, 3, "upsampled")
    print(f"pictures: {options.out}")


def standardized(images):
    """Return each image standardised by its own mean and standard deviation."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat = (flat - flat.mean(axis=1, keepdims=True)) / np.maximum(flat.std(axis=1, keepdims=True), 1e-6)
    return flat.reshape(images.shape)


def picture(figure, folder, number, name):
    """Save one picture of a network."""
    figure.savefig(folder / f"four_small_networks_{number + 1}_{name}.png")


if __name__ == "__main__":
    sources.run(main)
