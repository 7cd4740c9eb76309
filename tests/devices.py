"""The two devices that tests put replicas on.

Logical CPUs; or, with `TFDIST_TEST_DEVICE=GPU`, halves of the first GPU, since a machine of
two is rare.
"""

import os

import tiers

KIND = os.environ.get("TFDIST_TEST_DEVICE", "CPU")
PAIR = [f"{KIND}:0", f"{KIND}:1"]
GPU_MEMORY_MB = 4096  # of each half


def split(count=2):
    """Makes `count` logical devices of the first; before TensorFlow is used otherwise."""
    import tensorflow as tf

    # Else a GPU multiplies float32 with 10 bits of mantissa.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    device = tf.config.list_physical_devices(KIND)[0]
    memory = GPU_MEMORY_MB if KIND == "GPU" else None
    parts = [tf.config.LogicalDeviceConfiguration(memory_limit=memory)] * count
    tf.config.set_logical_device_configuration(device, parts)
    tiers.spare_tracing()
