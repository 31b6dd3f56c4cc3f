"""Full-batch gradient descent on 100 digits: the fourth origin's network, from its own initial weights.

Its images and weights are channels-last; xpcnn converts them on input. The origin's pooling multiplied the gradient
by the largest cell, so its loss fell faster than with the correct gradient: to 1.490 instead of 1.548.
"""

import argparse

import numpy as np
import sources

import xpcnn
from xpcnn import layers, optimizers, plots

#: The loss on the 100 digits before the first update and after each of the five: with the correct gradient, and the
#: origin's.
CORRECT_LOSSES = (2.30219, 2.10375, 1.95350, 1.81235, 1.67674, 1.54765)
ORIGIN_LOSSES = (2.302, 2.104, 1.949, 1.797, 1.646, 1.490)
ORIGIN_ACCURACY = 0.83


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sources.add_arguments(parser, epochs=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    images, y, _ = sources.mnist(options.data)
    x = (images[:100] / 255 - 0.5).transpose(0, 2, 3, 1)  # (100, 28, 28, 1)
    y = y[:100]
    model = xpcnn.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        input_shape=(1, 28, 28),
    )
    model.set_weights(origin_weights())
    model.compile(optimizers.SGD(0.1), "cross_entropy", ["accuracy"])
    model.summary()

    first = model.evaluate(x[:20], y[:20], data_format="channels_last")
    print(f"20 images before training: loss {first['loss']:.5f}, accuracy {first['accuracy']:.0%}")
    history = model.fit(x, y, epochs=options.epochs, batch_size=100, seed=options.seed, data_format="channels_last")
    print("epoch  loss     correct  the origin's")
    losses = [*history.steps, model.evaluate(x, y, data_format="channels_last")["loss"]]
    for epoch, loss in enumerate(losses):
        known = epoch < len(CORRECT_LOSSES)
        print(f"{epoch:5}  {loss:.5f}", f" {CORRECT_LOSSES[epoch]:.5f}  {ORIGIN_LOSSES[epoch]:.3f}" if known else "")
    accuracy = model.evaluate(x, y, data_format="channels_last")["accuracy"]
    print(f"accuracy on the 100 training images: {accuracy:.2f} (the origin: {ORIGIN_ACCURACY})")

    plots.samples(images[:1], [f"the first digit, a {y[0]}"]).savefig(options.out / "full_batch_first.png")
    plots.filters(model.parameters["conv2d_1.weight"]).savefig(options.out / "full_batch_filters.png")
    print(f"pictures: {options.out}")


def origin_weights():
    """Return the origin's initial weights in xpcnn's order: its kernels and flat features are channels-last."""
    rng = np.random.RandomState(1)
    kernels, dense = rng.randn(3, 3, 8) / 3, rng.randn(1352, 10) / 135
    return {
        "conv2d_1.weight": kernels.transpose(2, 0, 1)[:, None],
        "conv2d_1.bias": np.zeros(8),
        "dense_1.weight": dense.reshape(13, 13, 8, 10).transpose(3, 2, 0, 1).reshape(10, 1352),
        "dense_1.bias": np.zeros(10),
    }


if __name__ == "__main__":
    sources.run(main)
