import errno
import json
import os
import socket
import subprocess
import sys

import pytest
from namespaces import two_hosts
from programs import Programs

from tfdist.cluster.ports import reserve_ports

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the rules for two sockets on a port are Linux'"
)


def listener(family, address, port, reuse):
    one = socket.socket(family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
    try:
        one.bind((address, port))
        one.listen()
    except OSError:
        one.close()
        raise
    return one


def test_ports_are_distinct():
    with reserve_ports(100) as first, reserve_ports(100) as second:
        assert len({*first.numbers, *second.numbers}) == 200


@linux
@pytest.mark.parametrize(
    "family, address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")]
)
def test_a_worker_can_listen_while_the_port_is_held(family, address):
    with reserve_ports(1) as ports:
        port = ports.numbers[0]
        with listener(family, address, port, reuse=True) as server:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                accepted, _ = server.accept()
                with accepted:
                    client.sendall(b"hello")
                    assert accepted.recv(5) == b"hello"


@linux
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_others_cannot_take_a_held_port(address):
    with reserve_ports(1) as ports:
        with pytest.raises(OSError) as caught:
            listener(socket.AF_INET, address, ports.numbers[0], reuse=False)
        assert caught.value.errno == errno.EADDRINUSE


def test_closing_gives_the_ports_back():
    with reserve_ports(1) as ports:
        # A child that is alive does not hold them.
        child = subprocess.Popen(
            [sys.executable, "-c", "print('ready', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout.readline() == b"ready\n"
    try:
        listener(socket.AF_INET, "127.0.0.1", ports.numbers[0], reuse=False).close()
    finally:
        child.communicate(b"\n")


# With an ephemeral range of 20 ports, of which 10 are held, whatever the kernel
# chooses must be one of the other 10.
_CROWDED = """
import json, socket
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40019")
from tfdist.cluster.ports import reserve_ports
held = reserve_ports(10)
target = socket.socket()
target.bind(("127.0.0.1", 50000))
target.listen(100)
given, sockets = [], []
for reuse, connects in [(0, False), (1, False), (0, True), (1, True)]:
    for _ in range(40):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        try:
            one.connect(("127.0.0.1", 50000)) if connects else one.bind(("127.0.0.1", 0))
        except OSError:
            one.close()
            break
        given.append(one.getsockname()[1])
        sockets.append(one)
    for one in sockets:
        one.close()
print(json.dumps({"held": held.numbers, "given": given}))
"""


@linux
def test_the_kernel_never_hands_out_a_held_port():
    with two_hosts() as (host, _):
        child = host.exec([sys.executable, "-c", _CROWDED], stdout=subprocess.PIPE, text=True)
        printed, _ = child.communicate(timeout=60)
    ports = json.loads(printed)
    assert len(ports["held"]) == 10
    assert len(ports["given"]) >= 20  # at least some of the others, in each of the ways
    assert not set(ports["held"]) & set(ports["given"])


_ALL_REDUCE = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()

@tf.function
def total():
    rank = strategy.cluster_resolver.task_id
    ones = strategy.run(lambda: tf.constant(float(rank + 1)))
    return strategy.reduce("SUM", ones, axis=None)

print("the sum is", total().numpy(), flush=True)
"""


def test_tensorflow_listens_on_the_held_ports(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(_ALL_REDUCE)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    with Programs() as programs:
        launcher = programs.run("-n", "2", script, env=environment)
        assert launcher.wait(120) == 0, launcher.err
        assert sorted(launcher.out.splitlines()) == [
            "[worker 0] the sum is 3.0",
            "[worker 1] the sum is 3.0",
        ]
