import pytest

from bayestl.data.environment import Environment
from bayestl.errors import EngineUnavailable
from bayestl.measure.engines.onnxruntime import OnnxRuntime

HERE = Environment("here", engine="onnxruntime")


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
