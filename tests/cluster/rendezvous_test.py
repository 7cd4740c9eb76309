"""Several launchers: on the loopback interface, and on two hosts of their own."""

import os
import signal
import socket
import sys
import time

import pytest
import slowness
from namespaces import two_hosts
from programs import RUN, Programs, wait_until_gone

from tfdist.cluster import rendezvous
from tfdist.cluster.ports import reserve_ports


@pytest.fixture
def programs():
    with Programs() as started:
        yield started


@pytest.fixture
def address():
    # Held until the end, as for workers: the launcher sets SO_REUSEADDR, too.
    with reserve_ports(1) as ports:
        yield f"127.0.0.1:{ports.numbers[0]}"


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "train.py"
        head = "import json, os, sys, time\nconfig = json.loads(os.environ['TF_CONFIG'])\n"
        path.write_text(head + "rank = config['task']['index']\n" + text)
        return path

    return write


def options(rank, address, *more):
    return ["--nnodes", "2", "--node-rank", str(rank), "--rendezvous", address, *more]


SLEEP = "\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)\n"


# A launcher that takes silence for loss sooner than the usual one.
HASTY_RUN = [
    sys.executable,
    "-c",
    "import tfdist.cluster.rendezvous as r; r.SILENCE_S = 3; r.HEARTBEAT_S = 0.5\n"
    "from tfdist.cli import main; exit(main())",
    "run",
]


def pids(launcher, count=1):
    lines = launcher.wait_for(" pid ", count).splitlines()
    return [int(line.split()[-1]) for line in lines if " pid " in line]


def test_two_launchers_make_one_cluster(programs, address, script):
    path = script("print(rank, sys.argv[1], config['cluster']['worker'])")
    second = programs.run(*options(1, address, "-n2"), path, "b")  # comes first
    first = programs.run(*options(0, address), path, "a")
    assert first.wait() == 0, first.err
    assert second.wait() == 0, second.err
    lines = sorted((first.out + second.out).splitlines())
    assert [line[:14] for line in lines] == ["[worker 0] 0 a", "[worker 1] 1 b", "[worker 2] 2 b"]
    (cluster,) = {line[14:] for line in lines}
    assert cluster.count("127.0.0.1:") == 3


def test_a_failure_on_one_node_ends_all_and_is_shown_on_all(programs, address, script):
    path = script("if rank == 1:\n    raise ValueError('mine')\n" + SLEEP)
    both = [programs.run(*options(rank, address), path) for rank in (0, 1)]
    began = time.monotonic()
    assert [one.wait() for one in both] == [1, 1]
    assert time.monotonic() - began < slowness.seconds(10)
    wait_until_gone(pids(both[0]))
    for one in both:
        where = f"worker 1 on node 1 ({socket.gethostname()}, 127.0.0.1)"
        assert f"{where} failed with exit code 1; its last output:\nTraceback" in one.err
        assert one.err.splitlines()[-1] == "ValueError: mine"


def test_all_nodes_start_again_together(programs, address, script):
    path = script(
        "count = int(os.environ['TFDIST_RESTART_COUNT'])\n"
        "print('count', count, config['cluster'], flush=True)\n"
        "if count < 2: sys.exit(7) if rank == count else time.sleep(600)\n"
    )
    both = [programs.run(*options(rank, address, "--max-restarts", "2"), path) for rank in (0, 1)]
    assert [one.wait() for one in both] == [0, 0]
    for one in both:
        assert one.err.splitlines() == [
            f"worker {k} on node {k} ({socket.gethostname()}, 127.0.0.1) failed with exit code 7; "
            f"starting all workers again, restart {k + 1} of 2"
            for k in (0, 1)
        ]
    told = [[line.split("count")[1] for line in one.out.splitlines()] for one in both]
    assert told[0] == told[1]
    assert len(set(told[0])) == 3


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_launcher_is_named(programs, address, script, killed):
    path = script(SLEEP)
    both = [programs.run(*options(rank, address, "--max-restarts", "2"), path) for rank in (0, 1)]
    workers = [*pids(both[0]), *pids(both[1])]
    both[killed].signal(signal.SIGKILL)
    began = time.monotonic()
    assert both[1 - killed].wait() == 1
    assert time.monotonic() - began < slowness.seconds(10)
    wait_until_gone(workers)
    said = both[1 - killed].err.splitlines()[-1]
    assert said.startswith(f"node {killed}")
    assert "was lost: its connection was closed" in said


def test_a_silent_launcher_is_named(programs, address, script):
    path = script(SLEEP)
    both = [programs.start([*HASTY_RUN, *options(rank, address), path]) for rank in (0, 1)]
    workers = [*pids(both[0]), *pids(both[1])]
    both[1].signal(signal.SIGSTOP)
    assert both[0].wait() == 1
    assert "was lost: nothing was heard from it for 3 s" in both[0].err
    wait_until_gone(workers[:1])
    # When it goes on, it finds that the run is over.
    both[1].signal(signal.SIGCONT)
    assert both[1].wait() == 1
    wait_until_gone(workers[1:])


@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_launcher_ends_all(programs, address, script, asked):
    both = [programs.run(*options(rank, address), script(SLEEP)) for rank in (0, 1)]
    workers = [*pids(both[0]), *pids(both[1])]
    both[asked].signal(signal.SIGINT)
    assert [one.wait() for one in both] == [130, 130]
    wait_until_gone(workers)
    assert both[asked].err.splitlines()[-1] == "tfdist run was told to stop by SIGINT"
    where = f"node {asked} ({socket.gethostname()}, 127.0.0.1)"
    assert both[1 - asked].err.splitlines()[-1] == f"{where} was told to stop by SIGINT"


def connected(address):
    """A connection to a launcher that is about to listen there."""
    host, port = address.split(":")
    deadline = time.monotonic() + slowness.seconds(20)
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=20)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_signal_to_node_0_while_it_waits(programs, address, script):
    launcher = programs.run(*options(0, address), script(SLEEP))
    connected(address).close()  # it catches signals before it listens
    launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 143


def test_a_signal_to_node_1_while_it_waits(programs, script):
    with socket.create_server(("127.0.0.1", 0)) as server:  # a node 0 that never answers
        server.settimeout(20)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        launcher = programs.run(*options(1, address), script(SLEEP))
        connection, _ = server.accept()
        with connection, connection.makefile() as lines:
            connection.settimeout(20)
            assert '"type": "join"' in lines.readline()
            launcher.signal(signal.SIGTERM)
            assert '"type": "leaving"' in next(line for line in lines if "heartbeat" not in line)
    assert launcher.wait() == 143


def test_a_node_that_never_comes_is_named(programs, address, script):
    launcher = programs.run(*options(0, address, "--rendezvous-timeout=1"), script(""))
    assert launcher.wait() == 1
    assert launcher.err == f"tfdist run: node 1 of 2 did not come to {address} within 1 s\n"


def test_node_0_that_never_comes_is_named(programs, address, script):
    launcher = programs.run(*options(1, address, "--rendezvous-timeout=1"), script(""))
    assert launcher.wait() == 1
    assert f"node 0 of the run did not answer at {address} within 1 s" in launcher.err
    assert "Connection refused" in launcher.err


def test_two_nodes_with_one_rank(programs, address, script):
    path = script("")
    three = ["--nnodes=3", "--rendezvous", address, "--node-rank"]
    all_three = [programs.run(*three, rank, path) for rank in ("0", "1", "1")]
    assert [one.wait() for one in all_three] == [2, 2, 2]
    for one in all_three:
        assert "two nodes came with --node-rank 1" in one.err


def test_different_restarts(programs, address, script):
    path = script("")
    first = programs.run(*options(0, address), path)
    second = programs.run(*options(1, address, "--max-restarts=3"), path)
    assert [first.wait(), second.wait()] == [2, 2]
    assert "--max-restarts differs: node 1" in first.err
    assert "--max-restarts differs: node 1" in second.err


def test_an_early_node_with_other_terms(programs, address, script):
    # It tries until node 0 listens, and is there at once.
    path = script("")
    second = programs.run(*options(1, address, "--max-restarts=3"), path)
    first = programs.run(*options(0, address), path)
    assert [first.wait(), second.wait()] == [2, 2]


def test_different_versions(programs, address, script):
    path = script("")
    first = programs.run(*options(0, address), path)
    other = "import tfdist; tfdist.__version__ = '9.9'; from tfdist.cli import main; exit(main())"
    second = programs.start([sys.executable, "-c", other, "run", *options(1, address), path])
    assert [first.wait(), second.wait()] == [2, 2]
    assert "the tfdist version differs: node 1" in second.err
    assert "has 9.9" in second.err


def test_a_rendezvous_port_in_use(programs, script):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        launcher = programs.run(*options(0, address), script(""))
        assert launcher.wait() == 1
    assert f"node 0 cannot listen on {address}: Address already in use" in launcher.err


def test_an_address_of_another_machine(programs, script):
    launcher = programs.run(*options(0, "192.0.2.1:29400"), script(""))
    assert launcher.wait() == 1
    assert "Cannot assign requested address" in launcher.err
    assert "start --node-rank 0 on the machine that has this address" in launcher.err


def test_a_stranger_at_the_rendezvous_does_not_matter(programs, address, script):
    path = script("")
    first = programs.run(*options(0, address), path)
    with connected(address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        second = programs.run(*options(1, address), path)
        assert [first.wait(), second.wait()] == [0, 0]


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":29400", "host:0", "host:65536", "host:x", "fd00::1:2", "a b:1"]
)
def test_bad_addresses(text):
    with pytest.raises(ValueError, match="expected HOST:PORT") as caught:
        rendezvous.parse_address(text)
    assert repr(text) in str(caught.value)


# Rank 0 listens on its address of TF_CONFIG, rank 1 talks to it there.
_EXCHANGE = """
import socket
workers = config["cluster"]["worker"]
host, port = workers[0].split(":")
if rank == 0:
    server = socket.create_server((host, int(port)))
    peer, address = server.accept()
    print("from", address[0], peer.recv(5).decode(), flush=True)
    peer.sendall(b"world")
else:
    while True:
        try:
            peer = socket.create_connection((host, int(port)), timeout=20)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    peer.sendall(b"hello")
    print("from", host, peer.recv(5).decode(), flush=True)
"""


def on_hosts(programs, hosts, path, run=RUN):
    address = f"{hosts[0].ip}:29400"
    return [
        programs.start(
            [*run, *options(rank, address), path],
            start=host.exec,
        )
        for rank, host in enumerate(hosts)
    ]


def test_two_hosts(programs, script):
    with two_hosts() as hosts:
        both = on_hosts(programs, hosts, script(_EXCHANGE))
        assert [one.wait() for one in both] == [0, 0], both[0].err + both[1].err
    assert both[0].out == f"[worker 0] from {hosts[1].ip} hello\n"
    assert both[1].out == f"[worker 1] from {hosts[0].ip} world\n"


def test_a_cut_cable_is_noticed_on_both_sides(programs, script):
    with two_hosts() as hosts:
        both = on_hosts(programs, hosts, script(SLEEP), HASTY_RUN)
        workers = [*pids(both[0]), *pids(both[1])]
        hosts[1].cut()
        assert [one.wait() for one in both] == [1, 1]
        wait_until_gone(workers)
    assert "node 1 (" in both[0].err
    assert "was lost: nothing was heard from it for 3 s" in both[0].err
    assert "node 0 was lost: nothing was heard from it for 3 s" in both[1].err


def test_a_name_is_listened_for_everywhere(monkeypatch):
    heard = []
    with reserve_ports(1) as ports:
        port = ports.numbers[0]
        listener = rendezvous.Listener(os.uname().nodename, port, lambda *news: heard.append(news))
        try:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        finally:
            listener.close()
