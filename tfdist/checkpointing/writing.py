"""A checkpoint is written by all workers, or it is on none.

Each writes a file of its own, and they tell each other whether they could.
"""


def write(files, name, header, arrays, exchange):
    """Writes this worker's file, and removes it again where another's could not be written.

    Args:
        files: this worker's `WorkerFiles`.
        name, header, arrays: as for `WorkerFiles.write`.
        exchange: function of a sentence and a dict that returns all workers' dicts.

    Returns:
        Who could not write, and why, as text; "" where the checkpoint is on all workers.
    """
    problem = None
    try:
        files.write(name, header, arrays)
    except OSError as error:
        problem = f"worker {files.worker} could not write {files.path(name)}: {error}"
    answers = exchange(f"writing the checkpoint {name}", {"problem": problem})
    problems = "; ".join(answer["problem"] for answer in answers if answer["problem"])
    if problems:
        files.remove(name)  # those who could write it must not resume from it
    return problems
