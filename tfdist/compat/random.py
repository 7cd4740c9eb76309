"""Random numbers that differ between replicas and are the same on every run.

Needs: `SeedGenerator.next` (public, replaced for every generator).
Why: each replica holds the same generator state, so stock Keras draws the same
dropout mask on all of them. The replica's index is mixed into the seed that is
drawn, never into the state: states stay equal on all workers, checkpoints are
independent of the number of replicas, and replica 0 draws what one process
would.
"""

import keras
from keras.src.random.seed_generator import SeedGenerator

from tfdist.compat import active_step
from tfdist.compat.replacing import replace

# An odd constant (2**32 / golden ratio), so that multiplying by it permutes the
# 32-bit integers: different replicas never share a seed.
_MIX = 0x9E3779B9


def install():
    replace(
        SeedGenerator,
        "next",
        _seed_of_this_replica,
        "in a step of a replica but the first",
        "mixes the replica's index into the seed",
    )


def _seed_of_this_replica(original):
    def next(self, ordered=True):
        seed = original(self, ordered=ordered)
        step = active_step.current()
        if step is None or step.replica_id is None:
            return seed
        return mix_replica(seed, step.replica_id)

    return next


def mix_replica(seed, replica_id):
    """Returns `seed` (two integers) with the replica's index mixed into the first.

    Args:
        seed: integer tensor of shape `(2,)`.
        replica_id: scalar integer tensor, 0 for the first replica.

    Returns:
        A tensor like `seed`; the same values where `replica_id` is 0.
    """
    mix = keras.ops.cast(replica_id, "uint32") * keras.ops.cast(_MIX, "uint32")
    zero = keras.ops.zeros_like(mix)
    mix = keras.ops.cast(keras.ops.stack([mix, zero]), seed.dtype)
    return keras.ops.bitwise_xor(seed, mix)
