"""How the launchers of a run on several machines meet and talk.

Node 0's launcher listens at the rendezvous address; the others connect to it,
again and again until it is there. Over these connections travel the messages of
`coordinator`, as lines of JSON, and heartbeats both ways: every `HEARTBEAT_S`
seconds. Nothing heard for `SILENCE_S` seconds means that the other side is lost.

Security: connections are neither authenticated nor encrypted. Whoever reaches
the port can take the place of a node or end the run, so use it on a trusted
network only. That holds for the training itself, too: TensorFlow's gRPC server
listens on all interfaces and executes what it is sent.
"""

import contextlib
import ipaddress
import json
import socket
import threading
import time

HEARTBEAT_S = 2.0
SILENCE_S = 8.0
_LONGEST_LINE = 1 << 22


class RendezvousError(Exception):
    """The nodes could not meet. `exit_code` is what the launcher should exit with."""

    def __init__(self, message, exit_code=1):
        super().__init__(message)
        self.exit_code = exit_code


def parse_address(text):
    """Splits "HOST:PORT", where HOST is a name, an IPv4 or an [IPv6] address.

    Example:

    >>> parse_address("10.0.0.1:29400")
    ('10.0.0.1', 29400)
    >>> parse_address("[fd00::1]:29400")
    ('fd00::1', 29400)

    Raises:
        ValueError: If it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    bad_host = not host or any(c.isspace() for c in host) or (":" in host and not bracketed)
    if not colon or bad_host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            f"expected HOST:PORT with a port from 1 to 65535, as in 10.0.0.1:29400 or "
            f"[fd00::1]:29400; received {text!r}"
        )
    return host, int(port)


class Channel:
    """One connection to another launcher: messages both ways, and heartbeats.

    Args:
        connection: A connected socket; closed by the channel.
        post: Called, from another thread, with (this channel, message) for each
            message, and at the end with one of type "lost".
    """

    def __init__(self, connection, post):
        connection.settimeout(SILENCE_S)
        # A message must not wait for the acknowledgement of the heartbeat before it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_address = connection.getsockname()[0]
        self._connection, self._post = connection, post
        self._sending, self._closing = threading.Lock(), threading.Event()
        self._reader = threading.Thread(target=self._read, name="tfdist-channel", daemon=True)
        self._beater = threading.Thread(target=self._beat, name="tfdist-heartbeat", daemon=True)
        self._reader.start()
        self._beater.start()

    def send(self, message):
        """Sends a message.

        Raises:
            OSError: If the connection is gone.
        """
        line = json.dumps(message).encode() + b"\n"
        with self._sending:
            self._connection.sendall(line)

    def close(self):
        """Says that no more comes, and waits a moment for the other side to do so.

        Closing with unread bytes would reset the connection, and the other side
        could lose our last message.
        """
        self._closing.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        self._reader.join(2.0)
        self._connection.close()

    def _read(self):
        reason = "its connection was closed"
        try:
            with self._connection.makefile("rb") as lines:
                while line := lines.readline(_LONGEST_LINE):
                    message = json.loads(line)
                    if message["type"] != "heartbeat":
                        self._post(self, message)
        except TimeoutError:
            reason = f"nothing was heard from it for {SILENCE_S:g} s"
        except OSError as error:
            reason = f"its connection broke ({error.strerror or error})"
        except (ValueError, TypeError, KeyError):
            reason = "it sent something that is no message of tfdist's"
        self._post(self, {"type": "lost", "reason": reason})
        # If this side still has more to say, it is told so by an error.
        if not self._closing.is_set():
            self._closing.set()
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _beat(self):
        while not self._closing.wait(HEARTBEAT_S):
            try:
                self.send({"type": "heartbeat"})
            except OSError:
                return  # the reader reports it


class Listener:
    """Node 0's side: accepts the other nodes and gives each a `Channel`.

    Args:
        host, port: The rendezvous address.
        post: As for `Channel`.

    Raises:
        RendezvousError: If it cannot listen there.
    """

    def __init__(self, host, port, post):
        self._post, self._channels = post, []
        self._socket = _listen(host, port)
        self._thread = threading.Thread(target=self._accept, name="tfdist-accept", daemon=True)
        self._thread.start()

    def close(self):
        """Ends all connections."""
        # Wakes the thread, which a mere close would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(3.0)  # it may be about to add a channel
        self._socket.close()
        closers = [threading.Thread(target=one.close, daemon=True) for one in self._channels]
        for one in closers:
            one.start()
        for one in closers:
            one.join(3.0)

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                self._channels.append(Channel(connection, self._post))
            except OSError:  # gone again already
                connection.close()


def _listen(host, port):
    where = f"{host}:{port}"
    try:
        ipaddress.ip_address(host)
        named = False
    except ValueError:
        named = host != "localhost"
    try:
        # A name may well mean 127.0.1.1 on the machine that bears it, so for a
        # name listen everywhere; an address is taken at its word.
        if named:
            family, address = _wildcard()
        else:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            if named and family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            # Connections of an earlier run may linger; a listener still conflicts.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port) if named else address)
            one.listen(128)
        except OSError:
            one.close()
            raise
    except OSError as error:
        raise RendezvousError(
            f"node 0 cannot listen on {where}: {error.strerror or error}; choose a free port, and "
            f"start --node-rank 0 on the machine that has this address"
        ) from None
    return one


def _wildcard():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as one:
            one.bind(("::", 0))
        return socket.AF_INET6, "::"
    except OSError:
        return socket.AF_INET, "0.0.0.0"


def connect(host, port, timeout, post, pause):
    """Connects a node to node 0, trying until it is there.

    Args:
        host, port: The rendezvous address.
        timeout: Seconds to try.
        post: As for `Channel`.
        pause: Called between two tries with seconds to wait; returns True to
            give up, as when the user has pressed Ctrl-C.

    Returns:
        A `Channel`, or None if `pause` gave up.

    Raises:
        RendezvousError: If node 0 did not answer in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            connection = socket.create_connection((host, port), timeout=max(0.1, min(5.0, left)))
            # On its own machine a connection to a free port may meet itself.
            if connection.getsockname() != connection.getpeername():
                return Channel(connection, post)
            connection.close()
            error = "nothing listens on that port"
        except OSError as problem:
            error = problem.strerror or str(problem)
        if time.monotonic() >= deadline:
            raise RendezvousError(
                f"node 0 of the run did not answer at {host}:{port} within {timeout:g} s (last "
                f"error: {error}); is its `tfdist run --node-rank 0` running, and the port open?"
            )
        if pause(0.5):
            return None
