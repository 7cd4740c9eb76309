"""What the nodes of a run must agree on before anything starts."""

_NAMES = {
    "nnodes": "--nnodes",
    "max_restarts": "--max-restarts",
    "parameter_servers": "--ps",
    "version": "the tfdist version",
}
_KINDS = {
    "node_rank": int,
    "nnodes": int,
    "max_restarts": int,
    "parameter_servers": int,
    "version": str,
    "hostname": str,
    "address": str,
    "ports": list,
}


def is_join(message):
    """Whether a message has all that a join needs: a stranger's may not break the run."""
    return all(isinstance(message.get(name), kind) for name, kind in _KINDS.items())


def complaint(terms, message, taken_by):
    """Says why a node cannot take part.

    Args:
        terms: Node 0's `nnodes`, `max_restarts` and `version`.
        message: The node's join.
        taken_by: Another node, with `hostname` and `address`, that has come with
            the same rank, or None.

    Returns:
        A sentence, or None if the node is welcome.
    """
    rank, hostname = message["node_rank"], message["hostname"]
    for name, expected in terms.items():
        if message[name] != expected:
            return (
                f"{_NAMES[name]} differs: node {rank} ({hostname}) has {message[name]}, node 0 "
                f"has {expected}; give all nodes the same"
            )
    if not 0 <= rank < terms["nnodes"]:
        return f"the node rank {rank} of {hostname} is not in 0..{terms['nnodes'] - 1}"
    if taken_by is not None:
        return (
            f"two nodes came with --node-rank {rank}: {taken_by.hostname} ({taken_by.address}) "
            f"and {hostname} ({message['address']}); give each node a rank of its own"
        )
    return None
