"""Figures as files: equal figures are equal bytes, and none is too large."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayestl.errors import FileError
from bayestl.report import figures
from bayestl.report.drawing import write_figure


def learning(**changed):
    frame = {"method": ["A", "A"], "n_target": [5, 25], "mape": [9.0, 5.0]}
    return pd.DataFrame({**frame, **changed})


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_equal_figures_are_equal_bytes(tmp_path, suffix):
    for name, mape in (("one", [9.0, 5.0]), ("same", [9.0, 5.0]), ("other", [9.0, 4.0])):
        drawn = figures.error_against_measurements(learning(mape=mape))
        write_figure(drawn, tmp_path / f"{name}{suffix}")
    one, same, other = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "same", "other"))
    assert one == same != other


def test_text_of_an_svg_is_text_and_nothing_tells_when_it_was_written(tmp_path):
    path = tmp_path / "figure.svg"
    write_figure(figures.error_against_measurements(learning(method="the method")), path)
    content = path.read_text()
    assert "the method" in content
    assert "sans-serif" in content
    assert "dc:date" not in content


def test_another_format_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"\.svg or \.png"):
        write_figure(Figure(), tmp_path / "figure.pdf")


def test_a_figure_that_is_too_large_is_refused_and_not_written(tmp_path):
    large = Figure()
    large.subplots().plot(*np.random.default_rng(0).random((2, 20_000)), "o")
    with pytest.raises(FileError, match="200,000 bytes"):
        write_figure(large, tmp_path / "figure.svg")
    assert not list(tmp_path.iterdir())
