"""`tfdist run`: starts the workers of a training script, on one or several machines."""

import argparse
import importlib.util
import math
import os
import sys

from tfdist.cluster.environment import WINDOWS
from tfdist.cluster.launcher import RunOptions, launch
from tfdist.cluster.rendezvous import parse_address

SUMMARY = "run a training script on several workers"

_USAGE = "tfdist run [options] (SCRIPT | -m MODULE) [arguments of the script ...]"

# What fits a screen; the rest is in `--help-all`.
_SHORT = f"""\
usage: {_USAGE}

Runs a training script on several workers, which find each other through TF_CONFIG.

  -n N                    workers on this machine (default: 2)
  --ps K                  parameter servers, for asynchronous training
  --max-restarts K        after a failure start all workers again, at most K times
  --log-dir DIR           also write each worker's output to a file
  --nnodes M --node-rank R --rendezvous HOST:PORT
                          this is machine R of M, of which machine 0 listens there
  --help-all              all options, the environment of workers, exit codes

examples:
  tfdist run -n 2 train.py --epochs 3
  tfdist run -n 2 --ps 1 train.py
  tfdist run --nnodes 2 --node-rank 0 --rendezvous 10.0.0.1:29400 train.py
  tfdist run --nnodes 2 --node-rank 1 --rendezvous 10.0.0.1:29400 train.py

Use several machines only on a network that you trust.
"""

_EPILOG = """\
examples:
  tfdist run -n 2 train.py --epochs 3

  asynchronously, with a parameter server:
  tfdist run -n 2 --ps 1 train.py

  on two machines, of which 10.0.0.1 is the first:
  tfdist run --nnodes 2 --node-rank 0 --rendezvous 10.0.0.1:29400 train.py
  tfdist run --nnodes 2 --node-rank 1 --rendezvous 10.0.0.1:29400 train.py

Every worker runs the same script. Its place among the others is in TF_CONFIG
(unset where there is only one worker), TFDIST_LOCAL_RANK, TFDIST_LOCAL_WORLD_SIZE
and TFDIST_RESTART_COUNT. If one fails, the others are ended within 10 seconds,
and its last output is shown again at the end. (With --ps the others train on without a
worker that was killed, and it is started again.) Use several machines only on a
network that you trust: neither tfdist nor TensorFlow authenticates the others.

exit codes:
  0      all workers ended with 0
  N      the exit code of the worker that failed first; 128 + S if signal S killed it
  1      also: a node did not come, or was lost
  2      wrong arguments, or nodes with different ones; nothing was started
  130    Ctrl-C          143    SIGTERM          129    SIGHUP
"""


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code."""
    parser, with_value = _parser()
    if os.name == "nt" and not {"-h", "--help", "--help-all"} & set(arguments):
        parser.error(WINDOWS)
    options, command = _split(arguments, with_value)
    given = parser.parse_args(options)
    argv = _worker_argv(parser, command)
    rendezvous = _check_nodes(parser, given)
    if given.log_dir is not None:
        try:
            os.makedirs(given.log_dir, exist_ok=True)
        except OSError as error:
            parser.error(f"--log-dir {given.log_dir} cannot be made: {error.strerror}")
    workers = given.workers
    if workers is None:
        workers = 2 if given.nnodes == 1 else 1
    return launch(
        RunOptions(
            argv=argv,
            workers=workers,
            log_dir=given.log_dir,
            max_restarts=given.max_restarts,
            nnodes=given.nnodes,
            node_rank=given.node_rank or 0,
            rendezvous=rendezvous,
            rendezvous_timeout=given.rendezvous_timeout,
            bind_cores=given.bind_cores,
            bind_gpus=given.bind_gpus,
            parameter_servers=given.ps,
        )
    )


class _ShortHelp(argparse.Action):
    def __init__(self, **settings):
        super().__init__(**settings, nargs=0)

    def __call__(self, parser, *_):
        print(_SHORT, end="")
        parser.exit()


def _parser():
    """Returns (the parser of our own options, those of them that take a value)."""
    parser = argparse.ArgumentParser(
        prog="tfdist run",
        usage=_USAGE,
        description="Runs a training script on several workers, which find each other through "
        "TF_CONFIG.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action=_ShortHelp, help="show what is used most, and exit")
    add("--help-all", action="help", help="show this help message, and exit")
    actions = [
        add(
            "-n",
            "--workers",
            type=_whole("a number of workers", 1),
            metavar="N",
            help="workers on this machine (default: 2; with --nnodes, 1 on each machine)",
        ),
        add(
            "--ps",
            type=_whole("a number of parameter servers", 0),
            default=0,
            metavar="K",
            help="parameter servers, for asynchronous training (default: 0); one more process "
            "coordinates the workers",
        ),
        add(
            "--log-dir",
            metavar="DIR",
            help="also write each worker's whole output to DIR/worker-<rank>.log",
        ),
        add(
            "--max-restarts",
            type=_whole("a number of restarts", 0),
            default=0,
            metavar="K",
            help="after a failure start all workers again, at most K times (default: 0)",
        ),
        add(
            "--bind-cores",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="give each worker its own part of this machine's cores (default), or let all "
            "workers share all cores",
        ),
        add(
            "--bind-gpus",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="give each worker its own part of this machine's GPUs (default), or let all "
            "workers see all GPUs",
        ),
        add(
            "--nnodes",
            type=_whole("a number of machines", 1),
            default=1,
            metavar="M",
            help="machines that take part (default: 1); start `tfdist run` on each",
        ),
        add(
            "--node-rank",
            type=_whole("a machine's number", 0),
            metavar="R",
            help="this machine's number, from 0 to M-1",
        ),
        add(
            "--rendezvous",
            metavar="HOST:PORT",
            help="where machine 0 listens, as the other machines reach it",
        ),
        add(
            "--rendezvous-timeout",
            type=_seconds,
            default=300.0,
            metavar="SECONDS",
            help="how long to wait for all machines to come (default: 300)",
        ),
    ]
    with_value = {name for action in actions if action.nargs != 0 for name in action.option_strings}
    return parser, with_value


def _split(arguments, with_value):
    """Separates our options from the script and what follows, which is its own.

    argparse's REMAINDER would do it but for script arguments that resemble ours.
    """
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            return arguments[:at], arguments[at + 1 :]
        if argument == "-m" or not argument.startswith("-"):
            break
        at += 2 if argument in with_value else 1
    return arguments[:at], arguments[at:]


def _worker_argv(parser, command):
    if not command:
        parser.error("expected a script, as in `tfdist run -n 2 train.py`; received none")
    if command[0] == "-m":
        if len(command) < 2:
            parser.error("expected a module after -m; received none")
        _check_module(parser, command[1])
    elif not os.path.exists(command[0]):
        parser.error(f"there is no script {command[0]!r} in {os.getcwd()}")
    return [sys.executable, *command]


def _check_module(parser, name):
    # Only the package at the top is looked for: what is below would import it.
    top = name.partition(".")[0]
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    finally:
        sys.path.pop(0)
    if found is None:
        parser.error(f"there is no module {name!r} in {os.getcwd()} or among the installed ones")


def _check_nodes(parser, given):
    """Returns the rendezvous' (host, port), or None on one machine."""
    if given.nnodes == 1:
        if given.node_rank:
            parser.error(f"--node-rank {given.node_rank} needs --nnodes larger than that")
        return None
    if given.node_rank is None or given.rendezvous is None:
        missing = "--node-rank" if given.node_rank is None else "--rendezvous"
        parser.error(f"--nnodes {given.nnodes} needs {missing} as well; see --help")
    if given.node_rank >= given.nnodes:
        parser.error(
            f"--node-rank must be from 0 to {given.nnodes - 1} for --nnodes {given.nnodes}; "
            f"received {given.node_rank}"
        )
    try:
        return parse_address(given.rendezvous)
    except ValueError as error:
        parser.error(f"--rendezvous: {error}")


def _whole(what, least):
    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected {what}, at least {least}; got {text!r}")
        return value

    return parse


def _seconds(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0; got {text!r}")
    return value
