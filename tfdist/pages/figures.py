"""Plots for reports, drawn without pyplot, so that no global state changes."""

import contextlib
import io

# Okabe and Ito's colours, told apart by the colour-blind, on white; lighter ones on dark.
_THEMES = {
    "light": {
        "ink": "#1f2430",
        "faint": "#8a90a0",
        "grid": "#e3e6ee",
        "paper": "#ffffff",
        "colours": ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5cc0", "#8c6d1f"],
        "map": ["#f4f8fc", "#9ecae1", "#0072b2", "#08306b"],
    },
    "dark": {
        "ink": "#e6e9f0",
        "faint": "#8b93a7",
        "grid": "#2c3242",
        "paper": "#1a1e29",
        "colours": ["#56b4e9", "#e69f00", "#2fc59a", "#e39bc2", "#b09cf0", "#f0e442"],
        "map": ["#1d2434", "#1f4e79", "#3a93cf", "#d4ecff"],
    },
}


@contextlib.contextmanager
def themed(theme="light"):
    """Figures drawn inside have the page's look; yields its colours, a dict.

    Args:
        theme: "light" or "dark".

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('Plots need matplotlib: pip install "tfdist[plots]"') from error
    colours = _THEMES[theme]
    style = {
        "font.family": "sans-serif",
        "font.size": 10,
        "text.parse_math": False,  # a class name is text, whatever its dollar signs
        "axes.edgecolor": colours["faint"],
        "axes.labelcolor": colours["ink"],
        "axes.titlecolor": colours["ink"],
        "text.color": colours["ink"],
        "xtick.color": colours["ink"],
        "ytick.color": colours["ink"],
        "axes.facecolor": colours["paper"],
        "figure.facecolor": colours["paper"],
        "grid.color": colours["grid"],
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        yield colours


@contextlib.contextmanager
def figure(width=4.6, height=4.4, form="png"):
    """Yields a figure and a buffer, which holds the file in the end: "png" or "svg"."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    file = io.BytesIO()
    yield drawn, file
    drawn.savefig(file, format=form, dpi=160)


def short(name, longest=18):
    """A name for a plot's label."""
    if name.startswith("_"):
        name = f" {name}"  # matplotlib leaves labels out that begin with an underscore
    return name if len(name) <= longest else name[: longest - 1] + "…"
