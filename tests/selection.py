"""Which cases a fixture that prepares many at once shall prepare: those that this run selects."""


def selected(request, parameter, **given):
    """Values of a parameter of this file's tests, in the order of the tests.

    Args:
        request: of the fixture.
        parameter: name of the parameter.
        given: values of other parameters that such a test must have, or `test`, its function's
            name.
    """
    values = {}
    for item in request.session.items:
        if item.path != request.path or not hasattr(item, "callspec"):
            continue
        found = {**item.callspec.params, "test": item.originalname}
        if parameter in found and all(found.get(name) == value for name, value in given.items()):
            values[found[parameter]] = None
    return list(values)
