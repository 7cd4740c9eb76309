"""Prints `docs/explanation/patches.md`: what tfdist replaces in Keras and TensorFlow.

Made from the code: the names from what `tfdist.compat` has replaced, the reasons from its
modules' docstrings. `make docs-tables` writes the page.
"""

import importlib
import inspect
import pathlib
import pkgutil
import re

from tfdist import compat
from tfdist.compat.replacing import PATCHES

PAGE = pathlib.Path(__file__).parent / "explanation" / "patches.md"
HEAD = """# Patches

<!-- Written by `make docs-tables` from tfdist/compat; do not edit. -->

tfdist works with plain `compile`, `fit`, `evaluate`, `predict` and `save`, so it replaces some \
names of Keras and TensorFlow, public and private ones. This page lists all of them.

- **When.** `import tfdist` replaces nothing. What is replaced permanently is replaced when the \
first strategy or callback of tfdist is made, and stays so until the process ends. What is \
replaced temporarily, or on objects of tfdist's own, says so.
- **Outside of any scope: nothing.** A replacement asks for the training step that is being \
traced, or for the strategy of the model or the scope. Where there is none of tfdist's, it calls \
the original with the same arguments. For each name, a test in `tests/compat/patches_test.py` \
calls both with plain Keras and compares all bits, or looks for the original in its place where \
the replacement is temporary.
- **Versions.** A name that a release of Keras or TensorFlow has moved is an `ImportError` that \
names it, when the first strategy is made.
- **A callback of tfdist that is passed to the `fit` of a plain model** does its work there, too: \
`Checkpoint` resumes it.

A step is one training or evaluation step on one replica; B is the number of examples of the \
global batch, b_r that of the replica's part of it.
"""


def import_all():
    """Imports each module of `tfdist.compat`, and lets them replace what they replace."""
    for module in pkgutil.iter_modules(compat.__path__, "tfdist.compat."):
        importlib.import_module(module.name)
    compat.install()


def full_name(patch):
    """`tf.nn.compute_average_loss`, `keras.src.losses.loss.reduce_weighted_values`."""
    owner = patch.owner
    if inspect.isclass(owner):
        where = f"{owner.__module__}.{owner.__qualname__}"
    else:
        where = owner.__name__.replace("tensorflow._api.v2", "tf")
    return f"{where}.{patch.name}"


def reason(module):
    """What the docstring of a module says behind "Why:"."""
    text = inspect.getdoc(importlib.import_module(module))
    found = re.search(r"^Why:\s(.*?)(\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"{module} does not say why"
    return found[1][0].upper() + found[1].strip()[1:]


def page():
    """The whole page, a string."""
    import_all()
    parts = [HEAD]
    for module in sorted({patch.module for patch in PATCHES}):
        parts.append(f"## compat/{module.rpartition('.')[2]}.py\n\n{reason(module)}\n")
        rows = ["| name | replaced | acts when | what it does then |", "|---|---|---|---|"]
        for patch in sorted(PATCHES, key=lambda patch: patch.lasts is not None):
            if patch.module == module:
                cells = (
                    f"`{full_name(patch)}`",
                    patch.lasts or "permanently",
                    patch.when,
                    patch.does,
                )
                rows.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
