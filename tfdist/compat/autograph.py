"""AutoGraph conversion of a user's function, apart from ours around it.

Needs: `tf_convert` and the conversion context of TensorFlow's autograph.
Why: `tf.distribute` converts what is passed to `run` only where the caller is
converted, and converts our wrappers along with it; the public decorators cannot
convert "if the caller is".
"""

from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api


def convert(function):
    """`function`, converted if the surrounding code is being converted."""
    return api.tf_convert(function, ag_ctx.control_status_ctx(), convert_by_default=False)
