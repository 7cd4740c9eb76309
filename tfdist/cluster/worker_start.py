"""The first moments of a worker process: bind it to its launcher and its cores.

Run as a program, `python worker_start.py LAUNCHER_PID CORES COMMAND...`, which
then becomes COMMAND. The work is done in a program of its own, and not in a
`preexec_fn`, because that would run Python between fork and exec in a process
with other threads (ours, or TensorFlow's in a notebook), which can deadlock.
"""

import contextlib
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def command(argv, cores):
    """The command line that starts `argv` as a worker of this process.

    Args:
        argv: The worker's own command line.
        cores: The cores that it may use, or None for all.

    Returns:
        A command line; on systems other than Linux, `argv` itself.
    """
    if not sys.platform.startswith("linux"):
        return list(argv)
    listed = ",".join(map(str, cores)) if cores else "-"
    # -I -S: no site packages, no environment: it starts in some 10 ms.
    shim = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
    return [*shim, str(os.getpid()), listed, *argv]


def main():
    launcher, cores, *argv = sys.argv[1:]
    _die_with(int(launcher))
    if cores != "-":
        # A container may have taken cores away since, and macOS binds none; then all are shared.
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execvp(argv[0], argv)


def _die_with(launcher):
    """Asks the kernel to kill this process when its launcher dies.

    It holds over exec. It does not hold for this process' own children: they
    are ended with its process group, which only a living launcher can do.
    """
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != launcher:  # it died before we asked
        os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    main()
