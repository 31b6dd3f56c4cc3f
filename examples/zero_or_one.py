"""Zero or one: the second origin's network, with softmax as a separate layer, trained on one image at a time.

The origin's loss became NaN in its second epoch, so it predicted 0 for everything: 46.3 %, the share of zeros.
"""

import argparse
import time

import numpy as np
import sources

import xpcnn
from xpcnn import data, layers, optimizers, plots

ORIGIN_ACCURACY = 0.463


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sources.add_arguments(parser, epochs=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    x, y, _ = sources.mnist(options.data)
    rows = np.concatenate([np.flatnonzero(y == digit)[:6000] for digit in (0, 1)])
    x, y = sources.some(options.images, x[rows] / np.float32(255), y[rows], options.seed)
    split = data.stratified_split(y, test_fraction=min(0.5, 2000 / len(y)), validation_fraction=0.0, seed=options.seed)

    model = xpcnn.Sequential(
        [
            layers.Conv2D(5, 3),
            layers.ReLU(),
            layers.MaxPool2D(2, strides=1),
            layers.Reshape((5 * 25 * 25,)),
            layers.Dense(100),
            layers.Tanh(),
            layers.Dense(2),
            layers.Softmax(),
        ],
        input_shape=(1, 28, 28),
        seed=options.seed,
    )
    model.summary()
    model.compile(optimizers.SGD(0.01), "binary_cross_entropy", ["accuracy"])
    before = time.perf_counter()
    history = model.fit(
        x[split.train],
        y[split.train],
        epochs=options.epochs,
        batch_size=1,
        validation_data=(x[split.test], y[split.test]),
        seed=options.seed,
    )
    seconds = time.perf_counter() - before
    result = model.evaluate(x[split.test], y[split.test])
    print(f"test accuracy {result['accuracy']:.4f} (the origin: {ORIGIN_ACCURACY}), loss {result['loss']:.4f} (NaN)")
    print(f"{len(history.steps) / seconds:,.0f} images per second, one at a time")

    plots.curves(history.history).savefig(options.out / "zero_or_one_curves.png")
    plots.filters(model.parameters["conv2d_1.weight"]).savefig(options.out / "zero_or_one_filters.png")
    shown = np.concatenate([split.test[y[split.test] == digit][:5] for digit in (0, 1)])
    titles = [f"{label}: {p:.3f}" for label, p in zip(y[shown], model.predict(x[shown])[:, 1], strict=True)]
    plots.samples(x[shown], titles).savefig(options.out / "zero_or_one_samples.png")
    print(f"pictures: {options.out}")


if __name__ == "__main__":
    sources.run(main)
