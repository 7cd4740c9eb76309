"""Which training step is being traced on this thread, if any.

`tf.distribute` traces each replica on a thread of its own, and the patched
Keras functions are called deep inside; a thread-local stack is how they find
the step that they belong to.
"""

import contextlib
import threading

_local = threading.local()


def current():
    """The innermost active step of this thread, or None."""
    stack = getattr(_local, "stack", None)
    return stack[-1] if stack else None


@contextlib.contextmanager
def activate(step):
    """Makes `step` the current one of this thread."""
    stack = _local.__dict__.setdefault("stack", [])
    stack.append(step)
    try:
        yield step
    finally:
        stack.pop()
