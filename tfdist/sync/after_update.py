"""What happens behind the update of a step, in one order whoever asks for it.

    gradient-sync algorithm -> constraints -> masks -> averages -> observers

The algorithm comes first, since it assigns variables, and keeps their constraints
(`sync/constrained.py`). A mask then sets to zero what it holds at zero, averages of the
model see the masked one, and observers see what the next step begins with. Links of one
kind run in the order in which they were added.

A step of a model also runs the chains of the models inside of it: who masks a model has it
masked where another one trains it, such as Keras' `Distiller` its student. So do the chains of
models that say that they hold what it shares with them (`hold_layers`).

Limit: `train_on_batch` of a model without a strategy runs the chains of that model alone.
"""

import contextlib

from tfdist.compat.layers import all_layers, own_variables

KINDS = ("masks", "averages", "observers")


class AfterUpdate:
    """The links of a model's chain.

    Attributes:
        parts: list of the chains that this one was joined of; itself alone for a model's own.
        trained: the model that is trained in its place, which holds this one's layers; or None.

    Example:

    >>> chain = AfterUpdate()
    >>> with chain.linked("observers", lambda communicator, agreed: print("look")):
    ...     with chain.linked("masks", lambda communicator, agreed: print("mask")):
    ...         chain.run(None, True)
    mask
    look
    >>> chain.run(None, True)
    """

    def __init__(self):
        self._links = {kind: [] for kind in KINDS}
        self.parts = [self]
        self.trained = None

    @contextlib.contextmanager
    def linked(self, kind, link):
        """Adds a link for as long as the context lasts.

        Args:
            kind: "masks", "averages" or "observers".
            link: function of the communicator and of a scalar bool tensor, whether
                replicas hold the same model at this moment: under a local algorithm a mask
                may change only then. Traced in each step, on each replica.

        Raises:
            ValueError: there is no such kind.
        """
        if kind not in self._links:
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
        self._links[kind].append(link)
        try:
            yield
        finally:
            self._links[kind].remove(link)

    def __bool__(self):
        return any(self._links.values())

    @classmethod
    def joined(cls, chains):
        """One chain of all links that several chains have at this moment."""
        joined = cls()
        joined.parts = list(chains)
        for kind, links in joined._links.items():
            links += [link for chain in chains for link in chain._links[kind]]
        return joined

    def run(self, communicator, agreed):
        """Calls all links; see `linked` for what they are given."""
        for links in self._links.values():
            for link in links:
                link(communicator, agreed)


def chain_of(model):
    """The model's own `AfterUpdate`."""
    return vars(model).setdefault("_tfdist_after_update", AfterUpdate())


def chain_within(model, outermost=True):
    """The links of a model and of those inside of it, as one `AfterUpdate`.

    Args:
        model: the Keras model that is trained.
        outermost: bool, whether its own links are among them.
    """
    found = {}
    for layer in all_layers(model):
        own = vars(layer).get("_tfdist_after_update")
        for chain in [own] if own is not None else []:
            found[id(chain)] = chain
        for chain in vars(layer).get("_tfdist_held_by", ()):
            found.setdefault(id(chain), chain)
    if not outermost:
        found.pop(id(vars(model).get("_tfdist_after_update")), None)
    return AfterUpdate.joined(list(found.values()))


def hold_layers(model, variables):
    """Has the model's chain run, too, where another model trains layers that it holds.

    Args:
        model: the Keras model.
        variables: list of Keras variables that its links look after.
    """
    chain, held = chain_of(model), {id(variable) for variable in variables}
    for layer in all_layers(model):
        if layer is not model and any(id(one) in held for one in own_variables(layer)):
            before = vars(layer).get("_tfdist_held_by", ())
            if all(one is not chain for one in before):
                vars(layer)["_tfdist_held_by"] = (*before, chain)
