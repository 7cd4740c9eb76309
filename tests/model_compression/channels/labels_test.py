"""Labels that are one, those that must stay, and what is left of them when an axis says nothing."""

import numpy as np

from tfdist.model_compression.channels.labels import Labels, axes_of, shortened


def test_labels_are_one_through_others():
    labels = Labels()
    one, two, three = labels.new(3), labels.new(3), labels.new(3)
    labels.same(one, two)
    labels.same(two[::-1], three)
    channels, reasons = labels.resolved()
    np.testing.assert_array_equal(channels[one], channels[three[::-1]])
    assert len(set(channels)) == 3 and not reasons


def test_labels_are_broadcast():
    labels = Labels()
    heads, places = labels.new(2), labels.new(6)
    labels.same(heads[:, None], places.reshape(2, 3))
    channels, _ = labels.resolved()
    np.testing.assert_array_equal(channels[places], channels[np.repeat(heads, 3)])


def test_the_first_reason_to_stay_is_told_of_all_that_are_one():
    labels = Labels()
    one, two = labels.new(2), labels.new(2)
    labels.same(one, two)
    labels.keep(two[1], "first")
    labels.keep(one, "second")
    channels, reasons = labels.resolved()
    assert [reasons[int(channels[label])] for label in one] == ["second", "first"]


def test_an_axis_along_which_nothing_differs_is_one_place():
    labels = np.broadcast_to(np.arange(3)[:, None], (3, 4))
    assert shortened(labels).shape == (3, 1)
    assert shortened(labels.reshape(12)[None]).shape == (1, 12)
    assert axes_of(shortened(labels)) == (0,)
