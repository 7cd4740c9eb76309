import io
import sys

import matplotlib
import matplotlib.image
import numpy as np
import pytest

import tfdist
from tfdist.evaluation import plots
from tfdist.pages import figures

RNG = np.random.default_rng(0)


def binary(**kwargs):
    y = RNG.integers(0, 2, 100)
    p = np.clip(RNG.normal(0.4 + 0.2 * y, 0.2), 0, 1)
    return tfdist.evaluate(lambda x: x, (p, y), bootstrap=0, **kwargs)


def multiclass(classes):
    y = np.arange(200) % classes
    return tfdist.evaluate(lambda x: x, (RNG.dirichlet(np.ones(classes), 200), y), bootstrap=0)


def multilabel(labels=3):
    y = RNG.integers(0, 2, (100, labels))
    return tfdist.evaluate(
        lambda x: x, (RNG.random((100, labels)), y), bootstrap=0, task="multilabel"
    )


def decoded(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")


@pytest.mark.parametrize(
    "make",
    [binary, lambda: multiclass(3), lambda: multiclass(30), multilabel, lambda: multilabel(9)],
    ids=["binary", "3 classes", "30 classes", "3 labels", "9 labels"],
)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_task_has_its_plots(make, theme):
    settings, pyplot = matplotlib.rcParams.copy(), "matplotlib.pyplot" in sys.modules
    drawn = plots.draw(make(), theme)
    assert list(drawn) == ["roc", "pr", "calibration", "confusion_matrix"]
    for png in drawn.values():
        image = decoded(png)
        assert min(image.shape[:2]) > 400
        assert image[..., :3].std() > 0.01
        assert (image[0, 0, :3].mean() > 0.9) == (theme == "light")
    assert matplotlib.rcParams.copy() == settings
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_files(tmp_path):
    paths = binary().save_plots(tmp_path / "new" / "plots")
    assert [path.name for path in paths] == [
        "roc.png",
        "pr.png",
        "calibration.png",
        "confusion_matrix.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_class_names_are_text_and_not_formulas():
    plots.draw(binary(class_names=["$x_{", "_hidden $ name that is much longer than others"]))


@pytest.mark.filterwarnings("ignore:The data hold no example")
def test_what_is_undefined_is_not_drawn():
    data = (np.array([0.2, 0.7]), np.zeros(2, int))
    report = tfdist.evaluate(lambda x: x, data, bootstrap=0)
    assert list(plots.draw(report)) == ["calibration", "confusion_matrix"]


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_seen_on_their_paper(theme):
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for graphics (1.4.11).
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    with figures.themed(theme) as colours:
        pass
    paper = to_rgb(colours["paper"])
    assert contrast(to_rgb(colours["ink"]), paper) >= 4.5
    for colour in colours["colours"]:
        assert contrast(to_rgb(colour), paper) >= 3, colour
    palette = LinearSegmentedColormap.from_list("shares", colours["map"])
    for share in np.linspace(0, 1, 101):
        cell = palette(share)
        assert contrast(to_rgb(plots._readable_on(cell)), cell) >= 4, share


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    report = binary()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "tfdist\[plots\]"'):
        plots.draw(report)
