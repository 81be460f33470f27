import pytest

from bayestl.data.environment import Environment
from bayestl.errors import EngineError, EngineUnavailable
from bayestl.measure.engine import ENGINES, Scope, load_engine
from bayestl.measure.engines.onnxruntime import OnnxRuntime

HERE = Environment("here", engine="onnxruntime")


@pytest.mark.parametrize("name", ENGINES)
def test_a_registered_engine_declares_its_options(name):
    engine = load_engine(ENGINES[name])
    assert engine.name == name
    space = engine.space(HERE)
    assert set(engine.scopes) == set(space.names)
    assert all(isinstance(scope, Scope) for scope in engine.scopes.values())
    assert all(option.doc for option in space.options.values())
    assert space.contains(space.default)


@pytest.mark.parametrize("reference", ["", "no.such.module:Engine", "bayestl.errors:Nothing"])
def test_a_reference_that_leads_nowhere_is_told(reference):
    with pytest.raises(EngineError, match="expected an engine at 'module:class'"):
        load_engine(reference)


def test_environments_of_one_machine_share_a_space():
    one = Environment("one", engine="onnxruntime", settings={"cores": "0"})
    assert OnnxRuntime().space(one) == OnnxRuntime().space(HERE)


def test_options_without_effect_are_not_active():
    space = OnnxRuntime().space(HERE)
    alone = space.configuration({"intra_op_num_threads": 1})
    assert alone["allow_spinning"] is alone["dynamic_block_base"] is None
    assert alone["inter_op_num_threads"] is None
    parallel = space.configuration({"execution_mode": "parallel"})
    assert parallel["enable_mem_pattern"] is None
    assert parallel["inter_op_num_threads"] >= 1


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("bayestl.measure.engines.onnxruntime.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r'pip install "bayestl\[onnxruntime\]"'):
        OnnxRuntime().version()
