"""What `feature_worker.py` has written so far."""

import pathlib
import pickle


def read(path):
    """Returns `{feature: its numbers, or an error as text}`, of what is complete."""
    results = {}
    if not pathlib.Path(path).exists():
        return results
    with open(path, "rb") as file:
        while True:
            try:
                name, result = pickle.load(file)
            except (EOFError, pickle.UnpicklingError):
                return results
            results[name] = result
