"""Small models and random samples, shared by the tests of training, models and model files."""

import numpy as np

import xpcnn
from xpcnn import layers

SHAPE = (2, 6, 6)
CLASSES = 3


def samples(n=40, seed=0):
    """Return images that can be told apart, float32 (n, 2, 6, 6), and their classes, 0 to 2."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    rng.shuffle(y)
    x = rng.normal(0, 0.5, (n, *SHAPE))
    x[np.arange(n), 0, y, :] += 1.5
    return x.astype(np.float32), y


def plain(xp=np, seed=0, **compiled):
    """A compiled model in which every sample goes its own way."""
    model = xpcnn.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=SHAPE,
        xp=xp,
        seed=seed,
    )
    model.compile(**compiled)
    return model


def mixed(xp=np, seed=0, **compiled):
    """A compiled model in which samples meet (BatchNorm), draws are made (Dropout) and paths join (Residual)."""
    model = xpcnn.Sequential(
        [
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNorm(),
            layers.ReLU(),
            layers.Residual([layers.Conv2D(4, 3, padding="same"), layers.Tanh(), layers.BatchNorm()]),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=SHAPE,
        xp=xp,
        seed=seed,
    )
    model.compile(**compiled)
    return model


def frozen(*before, xp=np, dropout=0.0, pooled=True, **compiled):
    """A compiled model whose layers are frozen up to its last, which may come after dropout."""
    first = [
        *before,
        layers.Conv2D(4, 3, padding="same", name="counted"),
        layers.BatchNorm(),
        layers.Residual([layers.Conv2D(4, 3, padding="same"), layers.BatchNorm(), layers.ReLU()]),
        layers.GlobalAveragePool2D() if pooled else layers.Flatten(),
    ]
    for layer in first:
        layer.trainable = False
    last = [layers.Dropout(dropout), layers.Dense(CLASSES, activation="softmax")]
    model = xpcnn.Sequential([*first, *last], input_shape=SHAPE, xp=xp)
    model.compile(**compiled)
    return model


def straight(outputs=1, activation=None, **compiled):
    """A compiled model of one dense layer over the flat image."""
    model = xpcnn.Sequential([layers.Flatten(), layers.Dense(outputs, activation=activation)], input_shape=SHAPE, xp=np)
    model.compile(**compiled)
    return model


def bits(model):
    """Return all weights as bytes, so that two models can be compared bit for bit."""
    return {name: value.tobytes() for name, value in model.get_weights().items()}


def without_seconds(history):
    """Return a history's columns but the time that was taken."""
    return {name: column for name, column in history.history.items() if name != "seconds"}


class Block(layers.Layer):
    """A block of one's own: branches, each a list of layers, and the layer that merges them."""

    def __init__(self, merge, *branches, name=None, xp=None):
        super().__init__(name=name, xp=xp)
        self.merge, self.branches = merge, branches

    def sublayers(self):
        return [*(layer for branch in self.branches for layer in branch), self.merge]

    def expand(self, graph, x):
        return graph.add(self.merge, *(graph.chain(branch, x) for branch in self.branches))
