"""Adam over 50 iterations on 100 digits: the fifth origin's network.

The origin created a new optimiser at every step, so Adam never had a history: its summed loss fell from 230.3 to 11.7,
while the correct one ends below 0.01. It loaded test images and never used them; here 200 of them are used.
"""

import argparse

import numpy as np
import sources

import xpcnn
from xpcnn import layers, optimizers, plots

ORIGIN_FIRST_LOSS, ORIGIN_LAST_LOSS = 230.3, 11.7


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sources.add_arguments(parser, epochs=50)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    (images, y), (test_images, test_y) = sources.mnist_with_test(options.data)
    x = images / 255.0
    model = xpcnn.Sequential(
        [
            layers.Conv2D(8, 3, padding=1, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        input_shape=(1, 28, 28),
        seed=options.seed,
    )
    model.summary()
    model.set_weights(origin_weights(model, options.seed))
    # The origin sums gradients over the 100 images, and xpcnn averages them: epsilon is a hundredth of its 1e-7.
    model.compile(optimizers.Adam(0.01, epsilon=1e-9), "cross_entropy", ["accuracy"])
    history = model.fit(x[:100], y[:100], epochs=options.epochs, batch_size=100, seed=options.seed, verbose=0)
    for iteration, loss in enumerate(history.steps):
        if iteration % 10 == 0 or iteration == len(history.steps) - 1:
            print(f"iteration {iteration:3}: summed loss {100 * loss:.4f}")
    last = 100 * model.evaluate(x[:100], y[:100])["loss"]
    print(f"after the last: {last:.4f} (the origin: {ORIGIN_FIRST_LOSS} falling to {ORIGIN_LAST_LOSS})")
    accuracy = model.evaluate(test_images[:200] / 255.0, test_y[:200])["accuracy"]
    print(f"accuracy on 200 unseen images: {accuracy:.3f}")

    plots.samples(images[:25], [str(label) for label in y[:25]]).savefig(options.out / "homework_samples.png")
    plots.curves(history.history).savefig(options.out / "homework_loss.png")
    plots.filters(model.parameters["conv2d_1.weight"]).savefig(options.out / "homework_filters.png")
    print(f"pictures: {options.out}")


def origin_weights(model, seed):
    """Return initial weights as the origin draws them, from a normal distribution with std 0.01, and biases of 0."""
    rng = np.random.default_rng(seed)
    shapes = {name: value.shape for name, value in model.parameters.items()}
    return {name: 0.01 * rng.normal(size=shape) * name.endswith("weight") for name, shape in shapes.items()}


if __name__ == "__main__":
    sources.run(main)
