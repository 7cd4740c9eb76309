"""Runs a program on each of two hosts, which are network namespaces with a cable between them."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from namespaces import two_hosts  # noqa: E402

PORT = 29400


@contextlib.contextmanager
def linked(rate=None):
    """Yields two hosts whose link carries `rate` each way ("100mbit"); None is no limit."""
    with two_hosts() as hosts:
        for host in hosts:
            if rate is not None:
                shape = ("rate", rate, "burst", "256kbit", "latency", "50ms")
                _do(host, "tc", "qdisc", "add", "dev", _device(host), "root", "tbf", *shape)
        yield hosts


def run_pair(hosts, commands, environments, deadline):
    """Runs a command on each host, with one core each.

    Args:
        hosts: the two of `linked`.
        commands: list of two lists of strings.
        environments: list of two dicts, over the environment of this process.
        deadline: seconds.

    Returns:
        A list of what each printed after "RESULT ", parsed from JSON.
    """
    cores = sorted(os.sched_getaffinity(0))
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    common = {**os.environ, **threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
    processes, until = [], time.monotonic() + deadline
    with contextlib.ExitStack() as stack:
        # Files: a pipe that nobody reads yet would stop its writer.
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in hosts]
        try:
            for host, command, environment, core, output in zip(
                hosts, commands, environments, cores, outputs
            ):
                process = host.exec(
                    command,
                    env={**common, **environment},
                    cwd=ROOT,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    preexec_fn=lambda core=core: os.sched_setaffinity(0, {core}),
                )
                processes.append(process)
            for process in processes:
                process.wait(max(0.0, until - time.monotonic()))
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return [_result(output) for output in outputs]


def keras_environments(hosts):
    """What makes two processes the two workers of a job."""
    addresses = [f"{host.ip}:{PORT}" for host in hosts]
    jobs = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for index in range(len(hosts))
    ]
    return [{"TF_CONFIG": json.dumps(job), "PYTHONPATH": str(ROOT)} for job in jobs]


def torch_environments(hosts):
    return [{"GLOO_SOCKET_IFNAME": _device(host)} for host in hosts]


def _result(file):
    file.seek(0)
    output = file.read()
    found = [line[7:] for line in output.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise RuntimeError(f"No result was printed, but:\n{output[-3000:]}")
    return json.loads(found[0])


def _device(host):
    shown = subprocess.run(
        ["ip", "-n", host.name, "-json", "link", "show"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (name,) = [link["ifname"] for link in json.loads(shown) if link["ifname"] != "lo"]
    return name


def _do(host, *command):
    ip = ["ip", "netns", "exec", host.name]
    subprocess.run([*ip, *command], check=True, capture_output=True, text=True)
