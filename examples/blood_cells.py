"""Blood cells in eight classes: the first origin's network, its loss, its eight text files, and one predicted image.

The origin trained on its test images and ended at 31.30 %, the share of one class in a test part that held only two.
"""

import argparse
import math
import time

import numpy as np
import sources

import xpcnn
from xpcnn import callbacks, data, layers, metrics, optimizers, plots
from xpcnn.formats import text

ORIGIN_ACCURACY, ORIGIN_SECONDS_PER_BATCH = 0.3130, 17.7


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sources.add_arguments(parser, epochs=10)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    x, y, classes = sources.blood_cells(options.data, side=50)
    x, y = sources.some(options.images, x, y, options.seed)
    split = data.stratified_split(y, test_fraction=0.2, validation_fraction=0.0, seed=options.seed)
    print("class: training images, test images")
    for number, name in enumerate(classes):
        print(f"  {name}: {(y[split.train] == number).sum():,}, {(y[split.test] == number).sum():,}")

    model = xpcnn.Sequential(
        [
            layers.Conv2D(10, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Conv2D(10, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(96, activation="relu"),
            layers.Dense(len(classes), activation="softmax"),
        ],
        input_shape=(1, 50, 50),
        seed=options.seed,
    )
    model.class_names = classes
    model.preprocessing = data.Preprocessing.measure(x, data.Decoding(50, 50, 1), rows=split.train)
    model.compile(optimizers.Adam(1e-3, beta1=0.95, beta2=0.99), "cross_entropy", ["accuracy"])
    model.summary()
    train, test = (data.Normalized(x, rows, model.preprocessing) for rows in (split.train, split.test))
    test_cost = callbacks.EvaluateEvery(test, y[split.test], steps=max(1, len(split.train) // 32 // 2))
    before = time.perf_counter()
    history = model.fit(
        train, y[split.train], epochs=options.epochs, batch_size=32, seed=options.seed, callbacks=[test_cost]
    )
    seconds = time.perf_counter() - before

    result = model.evaluate(test, y[split.test])
    print(f"test accuracy {result['accuracy']:.4f} (the origin: {ORIGIN_ACCURACY}), loss {result['loss']:.4f}")
    batches = len(history.steps)
    print(f"{seconds / batches * 1e3:.1f} ms per batch, evaluation included (the origin: {ORIGIN_SECONDS_PER_BATCH} s)")

    text.save(model, options.out / "text")
    again = text.load(options.out / "text")
    pixels, label = x[split.test[:1]], y[split.test[0]]
    probabilities = again.predict_images(pixels).probabilities[0]
    assert np.allclose(probabilities, model.predict(test[:1])[0], atol=1e-4)
    print("one test image, predicted by the network read back from its eight text files:")
    for name, probability in zip(classes, probabilities, strict=True):
        print(f"  {name}: {probability:.4f}")
    loss = -math.log(probabilities[label])
    print(f"predicted {classes[probabilities.argmax()]}, true class {classes[label]}: loss {loss:.4f}")

    cost = plots.curves(history.history, history.steps, test_cost.results)
    cost.savefig(options.out / "blood_cells_cost.png")
    outputs = model.predict(test)
    matrix = metrics.confusion_matrix(y[split.test], outputs.argmax(axis=1), len(classes))
    plots.confusion(matrix, classes).savefig(options.out / "blood_cells_confusion.png")
    wrong = plots.mistakes(x[split.test], y[split.test], outputs, classes)
    if wrong is not None:
        wrong.savefig(options.out / "blood_cells_mistakes.png")
    plots.filters(model.parameters["conv2d_1.weight"]).savefig(options.out / "blood_cells_filters.png")
    print(f"pictures and text files: {options.out}")


if __name__ == "__main__":
    sources.run(main)
