import numpy as np
import pytest

from tfdist.evaluation.slicing import column_of, groups, named_columns

ALL = np.ones(4, bool)


def test_each_value_has_its_examples():
    found = groups({"country": ["de", "fr", "de", "it"]}, {}, ALL)
    assert list(found["country"]) == ["de", "fr", "it"]
    np.testing.assert_array_equal(found["country"]["de"], [True, False, True, False])


def test_examples_without_weight_are_in_no_slice():
    kept = np.array([True, False, True, True])
    found = groups({"country": ["de", "fr", "de", "it"]}, {}, kept)
    assert list(found["country"]) == ["de", "it"]
    np.testing.assert_array_equal(found["country"]["it"], [False, False, True])


def test_input_columns():
    slices = {"from": "country", "to": "country", "flag": [0, 0, 1, 1]}
    assert named_columns(slices) == ["country"]
    column = np.array([[b"de"], [b"fr"], [b"de"], [b"fr"]], dtype=object)
    assert column_of({"country": column}, "country") is column
    found = groups(slices, {"country": column}, ALL)
    assert list(found["from"]) == list(found["to"]) == ["de", "fr"]
    assert list(found["flag"]) == ["0", "1"]
    assert named_columns(None) == [] and groups(None, {}, ALL) == {}


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: named_columns(["country"]), "slices of type list; expected a dict"),
        (lambda: column_of({"a": 1}, "b"), r"input column 'b'; received columns \['a'\]"),
        (lambda: column_of(np.zeros(3), "b"), "received inputs of type ndarray"),
        (lambda: groups({"a": [1, 2]}, {}, ALL), r"slices\['a'\] has the shape \(2,\); expected"),
        (
            lambda: groups({"a": np.arange(60)}, {}, np.ones(60, bool)),
            "has 60 different values; expected at most 50",
        ),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
