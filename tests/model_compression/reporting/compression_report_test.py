"""The report as text, JSON, HTML and a plot."""

import html.parser
import io
import json
import sys
import xml.etree.ElementTree

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers

from tfdist import model_compression as compression
from tfdist.model_compression.reporting.compression_report import CompressionReport
from tfdist.model_compression.reporting.facts import LayerFacts, ModelFacts
from tfdist.model_compression.reporting.latency import Latency

UGLY = "<b>a layer</b> & more" + "/inside" * 20


def facts(name, layers, notes=(), **more):
    found = {"metrics": None, "latency": Latency(1.5, 1.25, 2.0, 30, 1), **more}
    return ModelFacts(name, layers, None, None, notes=list(notes), **found)


def layer(name, size):
    return LayerFacts(name, size, size - 1, 10 * size, 9 * size, 4 * size, 3 * size)


@pytest.fixture
def report():
    large = 123_456_789_012
    before = [layer("first", 1000), layer(UGLY, large), layer("gone", 7), layer("last", 50)]
    after = [layer("first", 500), layer(UGLY, large), layer("new", 3), layer("last", 50)]
    return CompressionReport(
        facts("dense", before, ["Same.", "Mine."], metrics={"accuracy": 0.5, "loss": 1.0}),
        facts("small", after, ["Same."], metrics={"accuracy": 0.75, "loss": 0.5}),
    )


def test_text_fits_a_terminal_and_shows_what_changed(report):
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines() if line}
    assert rows["accuracy"][1:] == ["0.5000", "0.7500", "+0.2500"]
    assert rows["latency, ms"][-1] == "+0.0%"
    assert rows["first"][1:4] == ["1000", "->", "500"]
    assert rows["last"][1:] == ["50", "49", "500", "200", "150"]  # as it was
    assert rows["gone"][1:4] == ["7", "->", "-"] and rows["new"][1:4] == ["-", "->", "3"]
    assert "\nSame.\n" in text and "\nBefore: Mine.\n" in text
    assert "batch of 1" in text and "on this machine" in text and "of both models in turn" in text


def test_new_layers_stand_where_they_are():
    before = facts("a", [layer("one", 2), layer("two", 2), layer("three", 2)])
    after = facts("b", [layer("one", 2), layer("two_a", 1), layer("two_b", 1), layer("three", 2)])
    names = [name for name, *_ in CompressionReport(before, after).pairs()]
    assert names == ["one", "two_a", "two_b", "two", "three"]


def test_json(report, tmp_path):
    text = report.to_json(tmp_path / "report.json")
    assert json.loads(text) == json.loads((tmp_path / "report.json").read_text("utf-8"))
    found = json.loads(text)
    assert found["before"]["layers"][0]["parameters"] == 1000
    assert found["after"]["total"]["parameters"] == report.after.total("parameters")
    assert found["after"]["latency"]["median_ms"] == 1.5
    assert CompressionReport(report.before).to_dict()["after"] is None


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def test_html_stands_alone_and_is_escaped(report, tmp_path):
    report.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert "b" not in page.tags and UGLY in page.words
    assert page.tags.count("img") == 1 and "http" not in text.split("<style>")[1].split("base64")[0]
    assert {"Same.", "Before: Mine.", "accuracy", "0.7500"} <= set(page.words)
    assert "1,000 → 500" in page.words
    shown = Page(report._repr_html_())
    assert "table" in shown.tags and "img" not in shown.tags and UGLY in shown.words


@pytest.mark.parametrize("alone", [False, True])
def test_plots(report, alone, tmp_path):
    report = CompressionReport(report.before) if alone else report
    report.plot(tmp_path / "report.png")
    image = matplotlib.image.imread(io.BytesIO((tmp_path / "report.png").read_bytes()))
    assert image.shape[1] > image.shape[0] > 100 and np.ptp(image[..., :3]) > 0.5
    report.plot(tmp_path / "report.svg")
    assert xml.etree.ElementTree.parse(tmp_path / "report.svg").getroot().tag.endswith("svg")
    with pytest.raises(ValueError, match=r"expected a path that ends with .png or .svg"):
        report.plot(tmp_path / "report.pdf")


def test_without_matplotlib(report, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (report.plot, report.to_html):
        with pytest.raises(ImportError, match=r'pip install "tfdist\[plots\]"'):
            draw(tmp_path / "report.png")
    assert str(report) and report._repr_html_()


def test_of_real_models():
    def network(width):
        stack = [keras.Input((6,)), layers.Dense(width, name="a"), layers.Dense(3, name="b")]
        return keras.Sequential(stack, name="network")

    report = compression.report(network(8), network(4))
    assert [name for name, *_ in report.pairs()] == ["a", "b"]
    assert {row[0]: row[-1] for row in report.summary_table()[1]}["MACs"] == "-50.0%"
    assert report.title == "network"
