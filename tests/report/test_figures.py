import io
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayestl.data.measurement import Metric
from bayestl.report import figures
from bayestl.report.theme import DARK, LIGHT

LATENCY = Metric("latency", "ms")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def test_drawing_leaves_matplotlib_as_it_was(make_report):
    before = {key: mpl.rcParams[key] for key in mpl.rcParams}
    figures.option_effects(make_report().effects, LATENCY)
    assert {key: mpl.rcParams[key] for key in mpl.rcParams} == before


def test_axes_carry_the_metric_and_its_unit(make_report, make_predictions):
    drawn = figures.predicted_against_measured(make_predictions("A", "B"), LATENCY)
    assert {"measured latency [ms]", "predicted latency [ms], 90 % interval"} <= set(texts(drawn))
    assert {"A", "B"} <= set(texts(drawn))
    assert "latency [ms]" in texts(figures.best_so_far(make_report().trials, LATENCY))


def test_an_interval_that_misses_is_counted_and_hollow(make_predictions):
    frame = make_predictions()
    frame["q05"], frame["q95"] = 0.9 * frame["measured"], 1.1 * frame["measured"]
    frame.loc[0, ["q05", "q95"]] = 2 * frame.loc[0, "measured"], 3 * frame.loc[0, "measured"]
    drawn = figures.predicted_against_measured(frame, LATENCY)
    assert any("7 of 8 inside" in text for text in texts(drawn))
    marks = {line.get_markerfacecolor(): len(line.get_xdata()) for line in drawn.axes[0].lines}
    assert marks[LIGHT.ground] == 1


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (100.0, "log")])
def test_ratios_are_drawn_on_log_axes(factor, scale):
    values = np.linspace(1.0, 2.0, 6) * np.where(np.arange(6) > 2, factor, 1.0)
    frame = pd.DataFrame({"measured": values, "q05": values, "q50": values, "q95": values})
    axes = figures.predicted_against_measured(frame, LATENCY).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == (scale, scale)


def test_values_that_are_not_positive_are_drawn_on_linear_axes():
    values = np.array([-5.0, 0.0, 300.0])
    frame = pd.DataFrame({"measured": values, "q05": values, "q50": values, "q95": values})
    axes = figures.predicted_against_measured(frame, Metric("gain")).axes[0]
    assert axes.get_yscale() == "linear"


def test_series_are_labelled_at_their_end_without_overlap():
    learning = pd.DataFrame(
        {
            "method": np.repeat(["A", "B", "C"], 2),
            "n_target": [5, 25] * 3,
            "mape": [9, 5.0, 9, 5.01, 9, 5.02],
        }
    )
    drawn = figures.error_against_measurements(learning)
    boxes = [
        t.get_window_extent() for t in drawn.findobj(mpl.text.Text) if t.get_text().endswith(" %")
    ]
    assert len(boxes) == 3
    boxes.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


def test_best_so_far_follows_the_direction():
    trials = pd.DataFrame({"number": [1, 2, 3], "value": [5.0, np.nan, 9.0]})
    assert "best 5.00" in texts(figures.best_so_far(trials, LATENCY))
    assert "best 9.00" in texts(figures.best_so_far(trials, Metric("rate", "1/s", "maximize")))
    assert "1 failed" in texts(figures.best_so_far(trials, LATENCY, default=7.0))


def test_a_campaign_in_which_everything_failed_can_be_drawn():
    trials = pd.DataFrame({"number": [1, 2], "value": [np.nan, np.nan]})
    assert "2 failed" in texts(figures.best_so_far(trials, LATENCY))


def test_a_correlation_is_written_in_its_cells(make_report):
    drawn = figures.environment_correlation(make_report().correlation, theme=DARK)
    assert {"0.90", "1.00", "one core", "all cores"} <= set(texts(drawn))


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ["$x_1$ and $y", "配置", "<b>", "a" * 100, "\x00"])
def test_any_option_name_can_be_drawn(make_report, name):
    effects = make_report().effects.assign(option=[name, "b", "c"])
    drawn = figures.option_effects(effects, LATENCY)
    drawn.savefig(io.BytesIO(), format="svg")
