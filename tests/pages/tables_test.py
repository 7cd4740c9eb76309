import json

import numpy as np
import pytest

from tfdist.pages import tables


@pytest.mark.parametrize(
    "value, text",
    [(0.12345, "0.1235"), (float("nan"), "-"), (None, "-"), (1234, "1,234"), (-0.5, "-0.5000")],
)
def test_numbers(value, text):
    assert tables.number(value) == text


def test_p_values():
    assert tables.p_value(0.03) == "0.0300"
    assert tables.p_value(1e-9) == "<0.0001"
    assert tables.p_value(float("nan")) == "-"


def test_amounts_and_spans():
    assert tables.amount(1200.0) == "1,200"
    assert tables.amount(2.5) == "2.5"
    assert tables.span(0.1, 0.2) == "0.1000 to 0.2000"
    assert tables.span(float("nan"), float("nan")) == ""


def test_columns_are_aligned():
    assert tables.aligned(["a", "b"], [["long", "1"], ["x", "100"]]) == [
        "a       b",
        "long    1",
        "x     100",
    ]


def test_json_is_strict(tmp_path):
    value = {"a": np.array([1.0, np.nan]), "b": np.float32(0.5), 3: (np.inf, None, np.int64(2))}
    text = tables.to_json(value, tmp_path / "x.json")
    expected = {"a": [1.0, None], "b": 0.5, "3": [None, None, 2]}
    assert json.loads(text) == expected
    assert json.loads((tmp_path / "x.json").read_text()) == expected
