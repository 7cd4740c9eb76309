"""Workers that are about to train together compare notes first.

A worker with another model, another learning rate or one batch fewer does not
fail by itself: the others wait for it, or train something else. So each worker
publishes what it is about to do, reads what the others published, and all of
them raise the same error if it differs.
"""

import itertools
import json
import os
import time

from tfdist.compat import coordination

_rounds = itertools.count()


def agreement_timeout():
    """Seconds that workers wait for each other at the start of a call; `TFDIST_TIMEOUT`."""
    return float(os.environ.get("TFDIST_TIMEOUT", "600"))


def agree(what, facts, index, addresses, timeout=None):
    """Raises unless all workers publish the same `facts`.

    Args:
        what: str, what the workers are about to do, for the error.
        facts: dict of JSON values. Lists are compared item by item.
        index: this worker's index.
        addresses: list of all workers' `host:port`.
        timeout: seconds to wait; defaults to `agreement_timeout()`.

    Raises:
        RuntimeError: a worker published something else; names it and the first difference.
        TimeoutError: a worker published nothing; names it.
    """
    published = exchange(what, facts, index, addresses, timeout)
    for other, theirs in enumerate(published):
        if theirs != published[0]:
            raise _disagreement(what, published[0], theirs, other, addresses)


def exchange(what, facts, index, addresses, timeout=None):
    """Tells all workers `facts`, and waits for theirs.

    Args:
        what: str, what the workers are about to do, for the error.
        facts: dict of JSON values.
        index: this worker's index.
        addresses: list of all workers' `host:port`.
        timeout: seconds to wait; defaults to `agreement_timeout()`.

    Returns:
        A list of every worker's facts, in the order of workers.

    Raises:
        RuntimeError: a worker is about to do something else; names it.
        TimeoutError: a worker published nothing; names it.
    """
    timeout = agreement_timeout() if timeout is None else timeout
    key = f"tfdist/agree/{next(_rounds)}"
    coordination.put(f"{key}/{index}", json.dumps({"what": what, **facts}))
    deadline = time.monotonic() + timeout
    published = []
    for other, address in enumerate(addresses):
        text = coordination.get(f"{key}/{other}", max(0.001, deadline - time.monotonic()))
        if text is None:
            raise TimeoutError(
                f"worker {other} ({address}) did not come to {what} within {timeout:g} s. Every "
                "worker must call it; TFDIST_TIMEOUT sets how many seconds the others wait."
            )
        published.append(json.loads(text))
    for other, theirs in enumerate(published):
        if theirs["what"] != published[0]["what"]:
            raise _disagreement(what, published[0], theirs, other, addresses)
    return published


def _disagreement(what, chief, theirs, other, addresses):
    return RuntimeError(
        f"worker {other} ({addresses[other]}) is not doing what the chief "
        f"({addresses[0]}) does, in {what}: {_difference(chief, theirs)}. All workers must run the "
        "same program with the same seeds, on the same data, of which each takes rows of its own."
    )


def _difference(chief, worker):
    for name in chief:
        ours, theirs = chief.get(name), worker.get(name)
        if ours == theirs:
            continue
        if isinstance(ours, list) and isinstance(theirs, list):
            for position, (a, b) in enumerate(zip(ours, theirs)):
                if a != b:
                    return f"{name} {position} is {b} there and {a} on the chief"
            return f"it has {len(theirs)} {name}, the chief {len(ours)}"
        return f"{name} is {theirs} there and {ours} on the chief"
    return f"it has {sorted(worker)}, the chief {sorted(chief)}"
