"""Two hosts on one machine: network namespaces with a cable between them."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys

import pytest

_numbers = itertools.count()


class Host:
    """A network namespace with an address of its own.

    Attributes:
        ip: Its address, which the other host reaches.
    """

    def __init__(self, name, ip, cable):
        self.name, self.ip, self._cable = name, ip, cable

    def exec(self, argv, **options):
        """Starts a program on this host; returns its `subprocess.Popen`."""
        # `ip` becomes the program: signals to the process reach it.
        return subprocess.Popen(["ip", "netns", "exec", self.name, *argv], **options)

    def cut(self):
        """Cuts its cable: what is sent is lost without a word, as when a machine is gone."""
        # A link that is down would say so to the sender.
        _ip("-n", self.name, "address", "flush", "dev", self._cable)


@contextlib.contextmanager
def two_hosts():
    """Yields two `Host`s that reach each other; skips the test where that is not permitted.

    Programs that are still running on them are killed at the end.
    """
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and iproute2's `ip`")
    unique = f"{os.getpid()}x{next(_numbers)}"
    hosts = [Host(f"tfdist{unique}{end}", f"10.213.7.{end}", f"v{unique}{end}") for end in (1, 2)]
    cables = [host._cable for host in hosts]
    try:
        try:
            for host in hosts:
                _ip("netns", "add", host.name)
            # Made inside of a namespace, so that the machine's own network never
            # sees it, and it goes with the namespace.
            inside = ("-n", hosts[0].name)
            peer = ("peer", "name", cables[1], "netns", hosts[1].name)
            _ip(*inside, "link", "add", cables[0], "type", "veth", *peer)
            _ip("netns", "exec", hosts[0].name, "true")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
        for host, cable in zip(hosts, cables):
            _ip("-n", host.name, "address", "add", f"{host.ip}/24", "dev", cable)
            _ip("-n", host.name, "link", "set", cable, "up")
            _ip("-n", host.name, "link", "set", "lo", "up")
        yield tuple(hosts)
    finally:
        for host in hosts:
            _remove(host)


def _remove(host):
    found = subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True)
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    subprocess.run(["ip", "netns", "delete", host.name], capture_output=True)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
