"""Which channels of a model hang together: what must go with a filter, a neuron or a head."""
