"""Opens a TCP connection between each two workers of a job."""

import contextlib
import ipaddress
import secrets
import socket
import time

_BUFFER_BYTES = 4 * 2**20
_GREETING_S = 10.0
_GREETING_BYTES = 40  # a token of 32 digits, a blank, an index, a line feed


def connect(index, addresses, put, get, timeout):
    """Connects this worker to all others.

    Each worker listens at the host of its address, on a port that the kernel
    chooses, and tells the others where.

    Args:
        index: this worker's index.
        addresses: list of all workers' `host:port`; the ports are not used.
        put: `put(key, value)` publishes a string.
        get: `get(key, seconds)` waits for one; returns None if it does not come.
        timeout: seconds for all connections to be made.

    Returns:
        A dict from each other worker's index to a connected non-blocking socket.

    Raises:
        TimeoutError: a worker did not come; names it.
        OSError: a worker cannot be reached.
    """
    deadline = time.monotonic() + timeout
    if index == 0:
        put("tfdist/mesh/token", secrets.token_hex(16))
    sockets = {}
    with _listen(_host(addresses[index]), len(addresses)) as listener, contextlib.ExitStack() as on:
        on.callback(lambda: [one.close() for one in sockets.values()])
        put(f"tfdist/mesh/{index}", str(listener.getsockname()[1]))
        token = get("tfdist/mesh/token", _left(deadline))
        for peer in range(index):
            port = get(f"tfdist/mesh/{peer}", _left(deadline))
            if port is None:
                raise TimeoutError(f"worker {peer} ({addresses[peer]}) did not come in time")
            where = (_host(addresses[peer]), int(port))
            sockets[peer] = socket.create_connection(where, timeout=_left(deadline))
            sockets[peer].sendall(f"{token} {index:6}\n".encode())
        while len(sockets) < len(addresses) - 1:
            peer, connection = _accept(listener, token, deadline)
            if connection is None:
                absent = [i for i in range(index + 1, len(addresses)) if i not in sockets]
                names = ", ".join(f"worker {i} ({addresses[i]})" for i in absent)
                raise TimeoutError(f"{names} did not connect within {timeout:g} s")
            sockets[peer] = connection
        for one in sockets.values():
            _tune(one)
        on.pop_all()
    return sockets


def _listen(host, backlog):
    """Listens at `host` alone where it is an address of this machine, else everywhere.

    A name may stand for another address here than elsewhere: many machines call
    themselves by a loopback address.
    """
    try:
        where = str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
        family = socket.AF_INET6 if ":" in where else socket.AF_INET
        return socket.create_server((where, 0), family=family, backlog=backlog)
    except (ValueError, OSError):
        return socket.create_server(("", 0), backlog=backlog)


def _accept(listener, token, deadline):
    """The next peer that greets with the token; `(None, None)` at the deadline."""
    while True:
        listener.settimeout(_left(deadline))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return None, None
        connection.settimeout(min(_GREETING_S, _left(deadline)))
        greeting = b""
        with contextlib.suppress(OSError):
            # Not a byte more: what follows is the ring's.
            while len(greeting) < _GREETING_BYTES:
                part = connection.recv(_GREETING_BYTES - len(greeting))
                if not part:
                    break
                greeting += part
        words = greeting.decode("ascii", "replace").split()
        if len(words) == 2 and words[0] == token:
            return int(words[1]), connection
        connection.close()  # a stranger


def _tune(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    connection.setblocking(False)


def _host(address):
    return address.rpartition(":")[0].strip("[]")


def _left(deadline):
    return max(0.01, deadline - time.monotonic())
