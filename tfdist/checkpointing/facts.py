"""Of which training a checkpoint is: what must be the same for it to go on."""

import keras
import tensorflow as tf

import tfdist
from tfdist.checkpointing.files import FORMAT


def facts_of(strategy, gradient_sync):
    """What a checkpoint of a training says of itself.

    Args:
        strategy: the model's strategy.
        gradient_sync: str, how replicas agree; None for plain all-reduce.

    Returns:
        A dict of JSON values.
    """
    return {
        "format": FORMAT,
        "tfdist": tfdist.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "workers": strategy.num_workers,
        "replicas": strategy.num_replicas_in_sync,
        "gradient sync": gradient_sync,
    }
