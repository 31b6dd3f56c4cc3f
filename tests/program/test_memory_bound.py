"""The memory that one image takes, and how many images are predicted together."""

import numpy as np
import pytest

import xpcnn
from tests.models import mixed
from xpcnn import layers
from xpcnn.program import memory_bound


def network(*stack, shape=(1, 6, 6)):
    return xpcnn.Sequential([*stack], shape, np).network


def test_a_small_networks_demand_is_that_of_the_image_and_of_all_outputs():
    numbers, multiplications = memory_bound.demand(network(layers.Flatten(), layers.Dense(2)))
    assert (numbers, multiplications) == (36 + 36 + 2, 72)


def test_a_deep_networks_demand_is_that_of_what_is_needed_at_any_one_time():
    def demand(depth, *ends):
        stack = [layers.Residual([layers.Conv2D(4, 3, padding="same")]) for _ in range(depth)]
        return memory_bound.demand(network(layers.Conv2D(4, 1), *stack, *ends))[0]

    assert demand(40) == demand(10)

    class Own(layers.Layer):
        def forward(self, params, x, context):
            return x, lambda dy, gradients: dy

    assert demand(40, Own()) > 3 * demand(10, Own())
    image_copy_and_output = 3 * 36
    assert memory_bound.demand(network(Own()))[0] == image_copy_and_output


def test_a_border_counts_though_no_layer_gives_it():
    narrow, wide = (memory_bound.demand(network(layers.MaxPool2D(2, padding=p)))[0] for p in (0, 1))
    assert wide > narrow + 8 * 8 - 6 * 6


def test_a_network_of_the_usual_size_passes_and_one_that_takes_too_much_does_not(monkeypatch):
    small = mixed().network
    memory_bound.check_size(small)
    numbers, multiplications = memory_bound.demand(small)
    monkeypatch.setattr(memory_bound, "MOST_NUMBERS", numbers - 1)
    with pytest.raises(ValueError, match=rf"the limit is {numbers - 1:,} values in memory\. Received: {numbers}"):
        memory_bound.check_size(small)
    monkeypatch.setattr(memory_bound, "MOST_NUMBERS", numbers)
    monkeypatch.setattr(memory_bound, "MOST_MULTIPLICATIONS", multiplications - 1)
    with pytest.raises(ValueError, match=r"the limit is [0-9,]+ multiplications\."):
        memory_bound.check_size(small)


def test_as_many_images_are_predicted_together_as_one_may_take_and_one_at_least(monkeypatch):
    small = mixed().network
    numbers, _ = memory_bound.demand(small)
    assert memory_bound.images_at_once(small) == 256
    assert memory_bound.images_at_once(small, 10) == 10
    monkeypatch.setattr(memory_bound, "MOST_NUMBERS", 7 * numbers + 1)
    assert memory_bound.images_at_once(small) == 7
    monkeypatch.setattr(memory_bound, "MOST_NUMBERS", numbers // 2)
    assert memory_bound.images_at_once(small) == 1
