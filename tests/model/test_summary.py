import numpy as np

import xpcnn
from tests.models import SHAPE, mixed
from xpcnn import layers


def table(model):
    """Return the table's rows as lists of cells, and its last line."""
    text = model.summary().splitlines()
    return [line.split() for line in text[2:-2]], text[-1]


def test_the_table_shows_shapes_activation_bias_parameters_and_bytes(capsys):
    model = xpcnn.Sequential(
        [
            layers.Conv2D(10, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(8, activation="softmax", use_bias=False, name="answer"),
        ],
        input_shape=(1, 50, 50),
        xp=np,
    )
    text = model.summary()
    assert capsys.readouterr().out == text + "\n"
    assert text == (
        "layer         input     output    activation  bias  parameters    bytes\n"
        "-----------------------------------------------------------------------\n"
        "conv2d_1      1x50x50   10x46x46  relu        yes          260    1,040\n"
        "max_pool2d_1  10x46x46  10x23x23\n"
        "flatten_1     10x23x23  5290\n"
        "answer        5290      8         softmax     no        42,320  169,280\n"
        "-----------------------------------------------------------------------\n"
        "42,580 parameters, 170,320 bytes"
    )


def test_layers_inside_a_layer_are_indented_and_counted_once():
    model = mixed()
    rows, totals = table(model)
    assert [row[0] for row in rows] == [
        "conv2d_1", "batch_norm_1", "relu_1", "residual_1", "conv2d_2", "tanh_1", "batch_norm_2",
        "max_pool2d_1", "flatten_1", "dropout_1", "dense_1",
    ]  # fmt: skip
    assert "\n  conv2d_2 " in model.summary()
    assert "\n  residual_1" not in model.summary()
    count = sum(value.size for value in model.parameters.values())
    assert totals == f"{count} parameters, {count * 4:,} bytes; 16 running statistics"
    assert sum(int(row[-2]) for row in rows if row[-1].isdigit() and len(row) > 3) == count


def test_an_activation_that_is_a_layer_is_named_and_has_its_row():
    model = xpcnn.Sequential([layers.Conv2D(1, 1, activation=layers.LeakyReLU(0.2))], SHAPE, xp=np)
    rows, _ = table(model)
    assert rows[0][:4] == ["conv2d_1", "2x6x6", "1x6x6", "leaky_relu"]
    assert rows[1][0] == "leaky_relu_1"


def test_frozen_parameters_are_told_from_those_that_are_trained():
    model = mixed()
    model.layers[3].trainable = False
    trained = sum(value.size for name, value in model.parameters.items() if name[-9] != "2" and "_2." not in name)
    assert f", {trained} of them trainable; " in table(model)[1]


def test_a_model_shows_a_line_for_each_layer():
    block = layers.Residual([layers.Conv2D(4, 3, padding="same")], activation="relu")
    last = layers.Dense(3, activation="softmax", name="fc")
    model = xpcnn.Sequential([layers.Conv2D(4, 3, use_bias=False), block, layers.Flatten(), last], SHAPE, xp=np)
    assert repr(model) == (
        "Sequential(\n"
        "  (conv2d_1): Conv2D(filters=4, kernel_size=(3, 3), use_bias=False)\n"
        "  (residual_1): Residual(activation='relu')\n"
        "    (conv2d_2): Conv2D(filters=4, kernel_size=(3, 3), padding='same')\n"
        "  (flatten_1): Flatten()\n"
        "  (fc): Dense(units=3, activation='softmax')\n"
        ")"
    )


def test_a_model_that_is_not_built_shows_the_kinds_of_its_layers():
    assert repr(xpcnn.Sequential()) == "Sequential()"
    assert repr(xpcnn.Sequential([layers.Dense(3)])) == "Sequential(\n  (dense): Dense(units=3)\n)"
