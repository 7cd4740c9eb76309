"""TCP ports that stay ours until a worker listens on them.

Asking the kernel for a free port, closing the socket and handing the number to
a child leaves a moment in which anybody may take it. `reserve_ports` keeps the
sockets open instead:

1. Each socket is bound to port 0 *without* `SO_REUSEADDR`, so the kernel gives
   a port that nobody else has.
2. `SO_REUSEADDR` is set afterwards. From then on another socket with
   `SO_REUSEADDR` may bind and listen on that very port, since ours is bound and
   does not listen; TensorFlow's gRPC server sets the option. (Seen on Linux 6
   with TensorFlow 2.21, for sockets of both families below.)
3. While ours is open the kernel hands the port to nobody: a bind to port 0
   passes over every port that has a bound socket, whatever its options, and so
   does the choice of a port for an outgoing connection.

The sockets are bound to `[::]` for both IPv6 and IPv4, as gRPC listens there,
and to `0.0.0.0` on a machine without IPv6. They are not inherited by children.

Limits: a program that listens on the port without `SO_REUSEADDR` gets "address
already in use" (Python's `socketserver` needs `allow_reuse_address = True`).
On systems other than Linux the rules for two sockets on a port differ; the
ports are released there before the workers start (`holds_while_listening`).
"""

import socket
import sys

# Elsewhere a second socket may not listen beside ours, or would share it.
holds_while_listening = sys.platform.startswith("linux")


class ReservedPorts:
    """Open sockets on ports that nobody else can be given.

    Attributes:
        numbers: The port numbers, in order.
    """

    def __init__(self, sockets):
        self._sockets = list(sockets)
        self.numbers = [one.getsockname()[1] for one in self._sockets]

    def close(self):
        """Gives the ports back to the kernel."""
        for one in self._sockets:
            one.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def reserve_ports(count):
    """Reserves TCP ports on all of this machine's addresses.

    Example:

    >>> from tfdist.cluster.ports import reserve_ports
    >>> with reserve_ports(2) as ports:
    ...     len(set(ports.numbers))
    2

    Args:
        count: How many ports.

    Returns:
        `ReservedPorts`, to be closed when the workers that listen on the ports
        have ended.
    """
    sockets = []
    try:
        for _ in range(count):
            sockets.append(_bound_socket())
    except OSError:
        for one in sockets:
            one.close()
        raise
    # Only now: with the option set earlier, the kernel could have given the
    # second socket the port of the first.
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return ReservedPorts(sockets)


def _bound_socket():
    try:
        one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:  # a kernel without IPv6
        return _bound_ipv4_socket()
    try:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(("::", 0))
    except OSError:  # IPv6 is compiled in but switched off
        one.close()
        return _bound_ipv4_socket()
    return one


def _bound_ipv4_socket():
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.bind(("0.0.0.0", 0))
    except OSError:
        one.close()
        raise
    return one
