import numpy as np
import pandas as pd
import pytest
import torch

from bayestl.errors import ConfigurationError
from bayestl.models import blocks
from bayestl.models.sequential import target_block
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.models.transfer_gp import TransferGP
from tests.models.conftest import configurations, measured

TABLE = measured({"source": (60, 1.0, 0.0), "target": (8, 0.8, 1.0)})


@pytest.mark.parametrize("recipe", [SequentialGP(), TransferGP()])
def test_many_configurations_are_answered_as_few_are(recipe, monkeypatch):
    fitted = recipe.fit(TABLE, metric="latency", target="target")
    many = configurations(700, 5).set_axis(range(1000, 1700))
    few = pd.concat([fitted.predict(many.iloc[start : start + 50]) for start in range(0, 700, 50)])
    monkeypatch.setattr(blocks, "ROWS", 300)
    monkeypatch.setattr(target_block, "MANY", 2)  # of 60 rows
    threads = torch.get_num_threads()
    found = fitted.predict(many)
    assert torch.get_num_threads() == threads
    pd.testing.assert_frame_equal(found, few, rtol=1e-4)
    assert not found.equals(few)  # the bulk's variances went another way


def test_a_wrong_row_is_named_wherever_it_is(monkeypatch):
    fitted = SequentialGP().fit(TABLE, metric="latency", target="target")
    monkeypatch.setattr(blocks, "ROWS", 30)
    many = configurations(100, 5)
    many["share"] = np.where(many.index == 77, 2.0, many["share"].astype(float))
    with pytest.raises(ConfigurationError, match="row 77"):
        fitted.predict(many)


def test_the_number_of_threads_changes_nothing():
    table = measured({"a": (40, 1.0, 0.0), "b": (30, 0.7, 0.5), "target": (8, 0.8, 1.0)})
    threads, answers = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            fitted = SequentialGP().fit(table, metric="latency", target="target")
            assert torch.get_num_threads() == count
            torch.set_num_threads(1)
            answers.append(fitted.predict(configurations(50, 3)))
    finally:
        torch.set_num_threads(threads)
    assert answers[0].equals(answers[1])
