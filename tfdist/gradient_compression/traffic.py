"""Bytes that one of N replicas sends in a collective, and nothing else.

The same formulas for every compressor: an all-gather and an all-to-all send each
replica's data straight to the replica that needs it; an all-reduce is a
reduce-scatter and an all-gather (a ring, say), the optimum for large messages.
"""


def all_reduce_bytes(size, num_replicas):
    """2 (N - 1) / N x `size`, where `size` is the bytes of the values to sum."""
    return 2 * (num_replicas - 1) * size / num_replicas


def all_gather_bytes(size, num_replicas):
    """(N - 1) x `size`, where `size` is the bytes that a replica contributes."""
    return (num_replicas - 1) * size


def all_to_all_bytes(size, num_replicas):
    """(N - 1) / N x `size`, where `size` is the bytes of all N rows together."""
    return (num_replicas - 1) * size / num_replicas
