"""Who runs where: the launcher, and running a function on several workers.

Nothing here imports TensorFlow or Keras: the workers do.
"""

from tfdist.cluster.function_runner import WorkerError

__all__ = ["WorkerError"]
