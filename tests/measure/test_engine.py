import pytest

from bayestl.data.environment import Environment
from bayestl.errors import EngineError
from bayestl.measure.engine import ENGINES, Scope, load_engine


@pytest.mark.parametrize("name", ENGINES)
def test_a_registered_engine_declares_its_options(name):
    engine = load_engine(ENGINES[name])
    assert engine.name == name
    space = engine.space(Environment("here", engine=name))
    assert set(space.names) <= set(engine.scopes)
    assert all(isinstance(scope, Scope) for scope in engine.scopes.values())
    assert all(option.doc for option in space.options.values())
    assert space.contains(space.default)


@pytest.mark.parametrize("reference", ["", "no.such.module:Engine", "bayestl.errors:Nothing"])
def test_a_reference_that_leads_nowhere_is_told(reference):
    with pytest.raises(EngineError, match="expected an engine at 'module:class'"):
        load_engine(reference)
