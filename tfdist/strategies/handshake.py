"""The workers meet before TensorFlow starts, and agree that they can train together.

TensorFlow's servers wait for each other without an error that names a worker,
and do not compare anything. So each worker first talks to the chief, over the
very addresses of the cluster: a missing worker, a port in use, different
versions or different cluster descriptions end in one error on every worker,
before any work. The chief's random seed goes back to all.

The messages are one JSON line each way, over plain TCP, unauthenticated: like
TensorFlow's own servers (which listen on all interfaces, whatever host the
address names), this is for a trusted network.
"""

import json
import os
import socket
import time

_RETRY_SECONDS = 0.2
_MAGIC = "tfdist-handshake-1"


def start_timeout():
    """Seconds that workers wait for each other to start; `TFDIST_START_TIMEOUT`."""
    return float(os.environ.get("TFDIST_START_TIMEOUT", "300"))


def meet(addresses, index, facts, timeout=None):
    """Waits until all workers are there and agree.

    Args:
        addresses: list of `host:port`, the chief's first; the same on all workers.
        index: this worker's index in it.
        facts: dict of strings that must be equal on all workers, such as versions.
        timeout: seconds to wait; defaults to `start_timeout()`.

    Returns:
        The chief's facts, with what only the chief knows (`"seed"`).

    Raises:
        TimeoutError: a worker did not come; names its address.
        OSError: this worker's own port is in use.
        RuntimeError: workers disagree.
    """
    timeout = start_timeout() if timeout is None else timeout
    listener = _bind(addresses[index], index)
    with listener:
        message = {"magic": _MAGIC, "index": index, "addresses": list(addresses), "facts": facts}
        if index == 0:
            return _receive_all(listener, message, timeout)
        return _report(addresses, index, message, timeout)


def _bind(address, index):
    port = int(address.rpartition(":")[2])
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # TensorFlow binds the same port right after this, and the launcher may
        # hold it already (bound, not listening): both allow it with this option.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno,
            f"worker {index} cannot listen on port {port} of its address {address}: "
            f"{os.strerror(error.errno)}. Another process uses the port: choose a free one in "
            "TF_CONFIG, or let `tfdist run` choose.",
        ) from None
    return listener


def _receive_all(listener, message, timeout):
    addresses = message["addresses"]
    deadline = time.monotonic() + timeout
    present, connections, problem = set(), [], None
    try:
        while len(present) < len(addresses) - 1 and problem is None:
            listener.settimeout(max(0.0, deadline - time.monotonic()) or 0.001)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                break
            greeting = _read_line(connection, min(deadline, time.monotonic() + 10))
            if not isinstance(greeting, dict) or greeting.get("magic") != _MAGIC:
                connection.close()  # somebody else's probe
                continue
            connections.append(connection)  # also in case of a problem, so that it is told
            problem = _disagreement(message, greeting, present)
            present.add(greeting["index"])
        missing = [i for i in range(1, len(addresses)) if i not in present and problem is None]
        error = None
        if problem is not None:
            error = RuntimeError(problem)
        elif missing:
            error = TimeoutError(_missing_text(missing, addresses, timeout))
        reply = {"facts": message["facts"], "error": error and str(error), "late": bool(missing)}
        for connection in connections:
            _send_line(connection, reply)
        if error is not None:
            raise error
        return message["facts"]
    finally:
        for connection in connections:
            connection.close()


def _report(addresses, index, message, timeout):
    chief = addresses[0]
    host, _, port = chief.rpartition(":")
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=5)
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"worker {index} could not reach the chief at {chief} within {timeout:g} s "
                    f"({error}). Is it running, and is the address right as seen from here?"
                ) from None
            time.sleep(_RETRY_SECONDS)
    with connection:
        _send_line(connection, message)
        # The chief answers when all have come or its own deadline has passed.
        reply = _read_line(connection, deadline + 15)
    if not isinstance(reply, dict):
        raise TimeoutError(
            f"worker {index} reached the chief at {chief}, which did not answer: it ended, or "
            "another program listens there."
        )
    if reply["error"]:
        raise (TimeoutError if reply.get("late") else RuntimeError)(reply["error"])
    return reply["facts"]


def _missing_text(missing, addresses, timeout):
    names = ", ".join(f"worker {i} ({addresses[i]})" for i in missing)
    return (
        f"{names} did not come within {timeout:g} s, of {len(addresses)} workers. Start the same "
        "script there with its own TF_CONFIG, or use `tfdist run`; TFDIST_START_TIMEOUT sets "
        "how many seconds the others wait."
    )


def _disagreement(chief, worker, present):
    index = worker["index"]
    if worker["addresses"] != chief["addresses"]:
        return (
            f"worker {index} has another cluster in its TF_CONFIG than the chief: "
            f"{worker['addresses']} against {chief['addresses']}. Give all the same one."
        )
    if index in present or not 0 < index < len(chief["addresses"]):
        return f"two workers have the index {index} in TF_CONFIG. Give each its own."
    for name in sorted({*chief["facts"], *worker["facts"]} - {"seed"}):
        mine, theirs = chief["facts"].get(name), worker["facts"].get(name)
        if mine != theirs:
            return (
                f"workers differ in {name}: {theirs} on worker {index} "
                f"({chief['addresses'][index]}), {mine} on the chief. Make them the same on all."
            )
    return None


def _send_line(connection, message):
    try:
        connection.settimeout(10)
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        pass  # a worker that is gone is somebody else's error


def _read_line(connection, deadline):
    data = b""
    try:
        while not data.endswith(b"\n"):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            part = connection.recv(65536)
            if not part or len(data) > 10_000_000:
                return None
            data += part
        return json.loads(data)
    except (OSError, ValueError):
        return None
