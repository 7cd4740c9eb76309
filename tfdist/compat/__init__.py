"""Every private name of Keras or TensorFlow that tfdist touches.

Seen on TensorFlow 2.21 and Keras 3.15. Each module says which names it needs
and why no public one serves; `tests/compat` fails when a release moves them.

Nothing here decides anything: the patched functions ask the step that is being
traced (`active_step.current`) or the strategy that is in force, and where there
is none of tfdist's, they are exactly the originals.
"""

from tfdist.compat.backend import require_tensorflow, require_versions
from tfdist.compat.install import install

__all__ = ["install"]

# Here, since what follows fails in obscure ways without.
require_tensorflow()
require_versions()
