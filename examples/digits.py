"""Train on the bundled digits with the Python API, and plot the result.

The plot needs matplotlib: pip install ".[plot]".
"""

import argparse

import numpy as np

import xpcnn
from xpcnn import data, layers, optimizers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--picture", metavar="FILE", help="plot curves, filters and predictions to a PNG")
    options = parser.parse_args()

    digits = data.load_digits()
    split = data.stratified_split(digits.y, test_fraction=0.2, validation_fraction=0.1, seed=0)
    preprocessing = data.Preprocessing.measure(digits.x, data.Decoding(8, 8, 1), rows=split.train)
    x = preprocessing.normalize(digits.x)

    model = xpcnn.Sequential(
        [
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPool2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ],
        input_shape=(1, 8, 8),
    )
    model.summary()
    model.compile(optimizer=optimizers.Adam(2e-3), loss="cross_entropy", metrics=["accuracy"])
    history = model.fit(
        x[split.train],
        digits.y[split.train],
        epochs=options.epochs,
        validation_data=(x[split.validation], digits.y[split.validation]),
    )
    test = model.evaluate(x[split.test], digits.y[split.test])
    print(f"test accuracy {test['accuracy']:.4f}")
    if options.picture:
        probabilities = model.predict(x[split.test])
        draw(options.picture, history.history, model.parameters["conv2d_1.weight"], digits, split.test, probabilities)


def draw(path, history, filters, digits, rows, probabilities) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.25, 1, 1.35))
    axes = left.subplots()
    epochs = np.arange(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["accuracy"], label="training")
    axes.plot(epochs, history["val_accuracy"], label="validation")
    axes.set(xlabel="epoch", ylabel="accuracy", title="learning")
    axes.set_xticks(epochs[4::5] if len(epochs) > 9 else epochs)
    axes.legend(frameon=False)
    middle.suptitle("its first filters")
    for axes, kernel in zip(middle.subplots(4, 4).flat, filters, strict=True):
        axes.imshow(kernel[0], cmap="gray")
        axes.axis("off")
    right.suptitle("least certain test images: true, predicted")
    least_certain = probabilities.max(axis=1).argsort()[:10]
    for axes, index in zip(right.subplots(2, 5).flat, least_certain, strict=True):
        guess = probabilities[index].argmax()
        true = digits.y[rows[index]]
        axes.imshow(digits.x[rows[index], 0], cmap="gray_r")
        axes.set_title(f"{true}, {guess}", color="black" if guess == true else "crimson", fontsize=10)
        axes.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
