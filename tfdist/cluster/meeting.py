"""How a launcher and the coordinator of its run come together, and talk.

Node 0's launcher has the coordinator in its own process, and lets the others in
where there are any; they reach it over the network (see `rendezvous`).
"""

import contextlib

import tfdist
from tfdist.cluster import rendezvous
from tfdist.cluster.coordinator import STOP_DEADLINE_S, Coordinator

_LOCAL = "127.0.0.1"  # how workers reach each other when all are on one machine


def meet(options, inbox, pause):
    """Finds the coordinator, or makes it.

    Args:
        options: The `RunOptions` of the launcher.
        inbox: A queue for the coordinator's messages to this node.
        pause: As for `rendezvous.connect`.

    Returns:
        A `Meeting`, or None if `pause` gave up.

    Raises:
        RendezvousError: If node 0 did not answer in time.
    """
    if options.node_rank == 0 or options.nnodes == 1:
        return _Host(options, inbox)
    channel = rendezvous.connect(
        *options.rendezvous,
        options.rendezvous_timeout,
        lambda _, message: inbox.put(message),
        pause,
    )
    return None if channel is None else Meeting(channel, channel.local_address)


class Meeting:
    """A launcher's way to the coordinator, at another node.

    Attributes:
        address: Where the other nodes reach this one's workers.
    """

    def __init__(self, channel, address):
        self._channel, self.address = channel, address

    def send(self, message):
        """Sends a message; that the coordinator is lost is told by one to the inbox."""
        with contextlib.suppress(OSError):  # the channel's reader reports the loss
            self._channel.send(message)

    def open(self):
        """On node 0, lets the others in: once it has joined, so that it hears all answers."""

    def close(self):
        """Ends the connections, once all nodes know that the run is over."""
        self._channel.close()


class _Host(Meeting):
    """The way of node 0's launcher, which makes the coordinator."""

    def __init__(self, options, inbox):
        where, address = None, _LOCAL
        if options.nnodes > 1:
            address, port = options.rendezvous
            where = f"{address}:{port}"
        self._coordinator = Coordinator(
            options.nnodes,
            options.max_restarts,
            tfdist.__version__,
            options.rendezvous_timeout,
            where,
            options.parameter_servers,
        )
        self._rendezvous = options.rendezvous if where else None
        self._listener = None
        super().__init__(_LocalChannel(self._coordinator, inbox), address)

    def open(self):
        if self._rendezvous is not None:
            self._listener = rendezvous.Listener(*self._rendezvous, self._coordinator.post)
        self._coordinator.start()

    def close(self):
        # It ends once all nodes have been told; it waits for their workers.
        self._coordinator.join(STOP_DEADLINE_S + 2.0)
        if self._listener is not None:
            self._listener.close()


class _LocalChannel:
    """The way between a launcher and the coordinator in the same process."""

    def __init__(self, coordinator, inbox):
        self._coordinator, self._inbox = coordinator, inbox
        self._to_launcher = _Mailbox(inbox)

    def send(self, message):
        self._coordinator.post(self._to_launcher, message)


class _Mailbox:
    def __init__(self, inbox):
        self._inbox = inbox

    def send(self, message):
        self._inbox.put(message)
