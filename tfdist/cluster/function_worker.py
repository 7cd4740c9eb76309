"""The program that a worker of `tfdist.run` is: it calls the function it was sent.

Started as `python -P function_worker.py DIRECTORY RANK`. The directory holds
`path.json`, the caller's `sys.path`, and `call.pkl`, the pickled (function, args,
kwargs); what came of it is written to `result-<rank>.pkl`.
"""

import json
import os
import pathlib
import sys
import traceback


def main():
    directory, rank = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    # First of all, so that the function's modules are found as they are there.
    sys.path[:] = json.loads((directory / "path.json").read_text())
    import cloudpickle

    try:
        function, args, kwargs = cloudpickle.loads((directory / "call.pkl").read_bytes())
        result = function(*args, **kwargs)
        try:
            pickled = cloudpickle.dumps({"result": result})
        except Exception as error:
            raise TypeError(
                f"the result of worker {rank}, a {type(result).__name__}, cannot be sent back: "
                f"{error}; return plain values or arrays"
            ) from error
    except BaseException as error:  # SystemExit, too: the caller waits for a result
        if isinstance(error, SystemExit) and not error.code and _serves():
            sys.exit(0)  # its coordinator has ended
        _write(directory, rank, _pickled_error(error))
        traceback.print_exc()
        sys.exit(1)
    _write(directory, rank, pickled)


def _serves():
    """Whether this process is a server of asynchronous training."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    return "ps" in config.get("cluster", {}) and config["task"]["type"] != "chief"


def _pickled_error(error):
    import cloudpickle

    text = "".join(traceback.format_exception(error))
    try:
        pickled = cloudpickle.dumps({"error": error, "traceback": text})
        cloudpickle.loads(pickled)  # some exceptions can be written and not read
    except Exception:
        pickled = cloudpickle.dumps({"error": None, "traceback": text})
    return pickled


def _write(directory, rank, pickled):
    # Renamed when whole: the worker may be killed in between.
    part = directory / f"result-{rank}.part"
    part.write_bytes(pickled)
    os.replace(part, directory / f"result-{rank}.pkl")


if __name__ == "__main__":
    main()
