"""Where replicas live: drop-in scopes, and what Keras' `fit` checks under them."""

from tfdist.compat import hooks
from tfdist.strategies import checks

hooks.register(hooks.Hooks(checks.around, checks.before_epochs, checks.empty_dataset))
