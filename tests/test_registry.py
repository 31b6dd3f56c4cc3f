import json

import numpy as np
import pytest

from xpcnn import initializers, losses, metrics, optimizers, schedules
from xpcnn.registry import Named, Registry, check_float, check_int, name_of


class Shape(Named):
    pass


class UnitSquare(Shape):
    pass


class Rectangle(Shape):
    def __init__(self, width, height=1.0):
        self.width = check_float("width", width, "(0, inf)")
        self.height = height


class Row(Shape):
    name = "line_up"

    def __init__(self, members):
        self.members = [shapes.get(member) for member in members]


shapes = Registry("shape", Shape, [UnitSquare, Rectangle, Row])


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Conv2D", "conv2d"),
        ("MaxPool2D", "max_pool2d"),
        ("BatchNorm", "batch_norm"),
        ("ReLU", "relu"),
        ("LeakyReLU", "leaky_relu"),
        ("CrossEntropy", "cross_entropy"),
        ("AdamW", "adamw"),
        ("RMSprop", "rmsprop"),
        ("SGD", "sgd"),
    ],
)
def test_a_class_is_named_in_snake_case(name, snake):
    assert name_of(type(name, (), {})) == snake


def test_a_class_may_say_its_name_itself():
    assert list(shapes.classes) == ["unit_square", "rectangle", "line_up"]


def test_an_object_stays_as_it_is_and_a_name_makes_a_new_one():
    square = UnitSquare()
    assert shapes.get(square) is square
    assert isinstance(shapes.get("unit_square"), UnitSquare)
    assert shapes.get("unit_square") is not shapes.get("unit_square")


def test_a_configuration_holds_name_and_arguments_and_makes_an_equal_object():
    row = Row([Rectangle(2), UnitSquare()])
    config = {
        "name": "line_up",
        "members": [{"name": "rectangle", "width": 2.0, "height": 1.0}, {"name": "unit_square"}],
    }
    assert row.config() == config
    assert shapes.from_config(json.loads(json.dumps(config))).config() == config


def test_a_configuration_is_made_of_plain_values():
    assert json.loads(json.dumps(Rectangle(np.float32(2), np.arange(2)).config()))["height"] == [0, 1]


def test_an_object_shows_how_it_was_made():
    assert repr(Row([Rectangle(2)])) == "Row(members=[Rectangle(width=2.0, height=1.0)])"


@pytest.mark.parametrize("given", ["circle", {"name": "circle"}, {"name": ["unit_square"]}, {"width": 1}, {}])
def test_an_unknown_name_is_refused_with_those_that_exist(given):
    with pytest.raises(ValueError, match=r"no shape with that name.*unit_square, rectangle, line_up.*Received"):
        shapes.get(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 1, "depth": 2}, r"takes width, height \(required: width\)\. Received: width, depth"),
        ({}, r"\(required: width\)\. Received: no arguments"),
        ({"width": 1, "__class__": "x"}, "Received: width, __class__"),
        ({"width": "1"}, r"width must be a number in \(0, inf\)\. Received: '1'"),
        ({"width": -1}, "Received: -1"),
    ],
)
def test_unfit_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        shapes.from_config({"name": "rectangle", **arguments})


def test_arguments_of_the_wrong_kind_are_value_errors():
    with pytest.raises(ValueError, match=r"'line_up' cannot be made from \{'members': 5\}"):
        shapes.from_config({"name": "line_up", "members": 5})


def test_a_configuration_nested_without_end_is_refused():
    config = {"name": "unit_square"}
    for _ in range(5000):
        config = {"name": "line_up", "members": [config]}
    with pytest.raises(ValueError, match="cannot be made"):
        shapes.from_config(config)


@pytest.mark.parametrize("given", [None, 3, UnitSquare, optimizers.Adam()])
def test_anything_else_is_a_type_error(given):
    with pytest.raises(TypeError, match=r"Give the shape as a name \(unit_square, .*Shape object. Received"):
        shapes.get(given)


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Received: UnitSquare, named 'unit_square'"):
        Registry("shape", Shape, [UnitSquare, UnitSquare])


@pytest.mark.parametrize("value", [0.5, 0, np.float32(0.5), np.int64(0)])
def test_a_number_becomes_a_python_float(value):
    assert type(check_float("x", value, "[0, 1)")) is float


@pytest.mark.parametrize("value", [1, -0.1, float("nan"), float("inf"), False, "0.5", None, [0.5], 1j])
def test_other_than_a_number_in_its_interval_is_refused(value):
    with pytest.raises(ValueError, match=r"x must be a number in \[0, 1\)\. Received"):
        check_float("x", value, "[0, 1)")


def test_the_ends_of_an_interval_are_open_or_closed():
    assert check_float("x", 1, "(0, 1]") == 1.0
    with pytest.raises(ValueError, match="Received: 0"):
        check_float("x", 0, "(0, 1]")
    with pytest.raises(ValueError, match="Received: inf"):
        check_float("x", float("inf"))


def test_a_whole_number_becomes_a_python_int():
    assert type(check_int("x", np.int64(3), 1)) is int


@pytest.mark.parametrize("value", [0, 2.0, True, "2", None])
def test_other_than_a_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="x must be a whole number, at least 1"):
        check_int("x", value, 1)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (losses, "cross_entropy binary_cross_entropy mse"),
        (metrics, "accuracy top_k precision recall f1 confusion_matrix"),
        (optimizers, "sgd rmsprop adagrad adam adamw"),
        (
            initializers,
            "he_normal he_uniform glorot_normal glorot_uniform lecun_normal lecun_uniform zeros ones",
        ),
    ],
)
def test_every_name_makes_an_object_that_a_model_file_can_keep(module, names):
    for name in names.split():
        made = module.get(name)
        config = json.loads(json.dumps(made.config()))
        assert config["name"] == name
        assert module.get(config).config() == config


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Constant(0.1),
        schedules.StepDecay(0.1, 3, 0.5),
        schedules.Exponential(0.1, 0.9, 2),
        schedules.Cosine(0.1, 10, 0.01),
        schedules.WarmUp(schedules.Cosine(0.1, 10), 3),
        schedules.OneCycle(0.1, 10),
    ],
    ids=lambda schedule: schedule.name,
)
def test_a_schedule_kept_in_a_configuration_gives_the_same_rates(schedule):
    again = schedules.get(json.loads(json.dumps(schedule.config())))
    assert [again(step) for step in range(20)] == [schedule(step) for step in range(20)]
