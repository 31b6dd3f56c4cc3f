"""The layers of a network, one file per kind."""

from typing import TYPE_CHECKING

from xpcnn.hints import no_attribute
from xpcnn.layers.activation import (
    ELU,
    GELU,
    Activation,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from xpcnn.layers.base import Context, Layer
from xpcnn.layers.branches import Branches
from xpcnn.layers.convolution import Conv2D
from xpcnn.layers.dense import Dense
from xpcnn.layers.dropout import Dropout
from xpcnn.layers.merging import Add, Average, Concatenate, Multiply
from xpcnn.layers.normalization import BatchNorm
from xpcnn.layers.pooling import (
    AdaptiveAveragePool2D,
    AveragePool2D,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
    MinPool2D,
)
from xpcnn.layers.reshape import Flatten, Reshape
from xpcnn.layers.residual import Residual
from xpcnn.layers.squeeze_excitation import SqueezeExcitation
from xpcnn.layers.upsample import Upsample2D

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "AdaptiveAveragePool2D",
    "Add",
    "Average",
    "AveragePool2D",
    "BatchNorm",
    "Branches",
    "Concatenate",
    "Context",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "HardSigmoid",
    "HardSwish",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MinPool2D",
    "Multiply",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SqueezeExcitation",
    "Tanh",
    "Upsample2D",
]


if not TYPE_CHECKING:  # which reports missing names itself

    def __getattr__(name):
        raise no_attribute(__name__, "layer", name, __all__)
