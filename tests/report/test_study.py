"""A study's figures: what is drawn is what the results say, failures and gaps included."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bayestl.report import study
from bayestl.report.drawing import as_svg, write_figure
from bayestl.report.theme import LIGHT
from bayestl.study.statistics import critical_difference

BUDGETS = (3, 10, 50)
FACTORS = {"A": 1.0, "B": 2.0, "C": 4.0}


def results(scenarios=4, seeds=2, methods=FACTORS, budgets=BUDGETS):
    """Errors of 60 / budget times a method's factor, twice as large in every second scenario."""
    rows = [
        {
            "scenario": f"{'one' if i < scenarios / 2 else 'two'}/s{i}",
            "group": "one" if i < scenarios / 2 else "two",
            "method": method,
            "budget": budget,
            "seed": seed,
            "error": "",
            "mape": 60 / max(budget, 1) * factor * (1 + i % 2) * (1 + 0.1 * seed),
            **{f"coverage{p}": p / 100 - 0.02 * factor for p in (50, 80, 90, 95)},
        }
        for i in range(scenarios)
        for seed in range(seeds)
        for budget in budgets
        for method, factor in methods.items()
    ]
    return pd.DataFrame(rows)


def fail(frame, where):
    changed = frame.copy()
    changed.loc[where, "error"] = "FitError: no"
    changed.loc[where, "mape"] = np.nan
    return changed


def perfect(frame, where):
    return frame.assign(mape=frame["mape"].mask(where, 0.0))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def line(axes, colour, marker=None):
    """The x and y of the panel's line, or of its marks, in a colour."""
    wanted = "-" if marker is None else "None"
    found = [
        each
        for each in axes.lines
        if each.get_color() == colour
        and each.get_linestyle() == wanted
        and each.get_linewidth() > 1
    ]
    return [np.asarray(part, dtype=float).tolist() for part in found[0].get_data()]


def test_a_line_is_the_geometric_mean_over_scenarios_of_the_mean_over_seeds():
    drawn = study.error_against_budget(results(), methods=["A", "B"])
    one = drawn.axes[0]
    assert one.get_title(loc="left") == "one"
    assert (one.get_xscale(), one.get_yscale()) == ("log", "log")
    x, y = line(one, LIGHT.series[1])
    assert x == [3, 10, 50]
    expected = 60 / np.array(BUDGETS) * 2 * np.sqrt(2) * 1.05
    assert y == pytest.approx(expected)
    assert {"A", "B", "other methods", "target measurements"} <= set(texts(drawn))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_long_legend_leaves_the_panels_their_height_and_the_label_room(groups):
    figures = []
    for count in (2, 9):
        frame = results(methods={f"a method of a name {i}": 1 + 0.3 * i for i in range(count)})
        named = sorted(set(frame["group"]))[:groups]
        figures.append(study.error_against_budget(frame[frame["group"].isin(named)]))
    short, long = (
        figure.axes[0].get_position().height * figure.get_figheight() for figure in figures
    )
    assert long > 0.85 * short
    figure = figures[1]
    text, panel = (
        part.get_window_extent() for part in (figure.axes[0].yaxis.label, figure.axes[0])
    )
    assert panel.y0 - 5 <= text.y0
    assert text.y1 <= panel.y1 + 5


def test_a_band_holds_the_seeds():
    drawn = study.error_against_budget(results(seeds=11), methods=["A"])
    heights = drawn.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    base = 60 / 50 * np.sqrt(2)
    assert heights.min() == pytest.approx(base * 1.1)  # the second of eleven seeds
    assert heights.max() == pytest.approx(60 / 3 * np.sqrt(2) * 1.9)


def test_a_method_that_was_not_run_everywhere_has_no_point_there():
    frame = results()
    frame = frame[~((frame["scenario"] == "one/s0") & (frame["method"] == "B"))]
    frame = frame[~((frame["budget"] == 50) & (frame["method"] == "A"))]
    axes = study.error_against_budget(frame, methods=["A", "B"]).axes
    assert line(axes[0], LIGHT.series[0])[0] == [3, 10]
    with pytest.raises(IndexError):
        line(axes[0], LIGHT.series[1])
    assert line(axes[1], LIGHT.series[1])[0] == [3, 10, 50]


@pytest.mark.parametrize("change", [fail, perfect])
def test_a_hollow_mark_leaves_out_what_has_no_logarithm(change):
    frame = results()
    where = (frame["method"] == "A") & (frame["budget"] == 10) & (frame["scenario"] == "one/s1")
    axes = study.error_against_budget(change(frame, where), methods=["A"]).axes[0]
    assert line(axes, LIGHT.series[0])[1][1] == pytest.approx(60 / 10 * 1.05)
    hollow = [each for each in axes.lines if each.get_markerfacecolor() == LIGHT.ground]
    assert [each.get_xdata().tolist() for each in hollow] == [[10]]


def test_a_budget_of_nothing_has_a_place_and_a_tick():
    drawn = study.error_against_budget(results(budgets=(0, 5)), methods=["A"])
    assert "0" in [text.get_text() for text in drawn.axes[0].get_xticklabels()]


def test_a_ratio_is_to_the_reference_and_the_worst_scenario_is_shown():
    frame = results()
    worse = (frame["method"] == "A") & (frame["scenario"] == "one/s0")
    frame.loc[worse, "mape"] *= 8
    drawn = study.ratio_against_budget(frame, "B", limit=1.1, methods=["A", "B"])
    axes = drawn.axes[0]
    assert line(axes, LIGHT.series[0])[1] == pytest.approx([np.sqrt(4 * 0.5)] * 3)
    worst = [each for each in axes.lines if each.get_linewidth() == 0.8]
    assert worst[0].get_ydata() == pytest.approx([4, 4, 4])
    assert axes.patches[0].get_y() == pytest.approx(1.1)
    assert "error over that of B" in texts(drawn)
    assert "B" not in texts(drawn)  # it is the line at 1


def test_calibration_has_a_panel_a_method_and_leaves_failures_out():
    frame = results(methods={"A": 1.0, "C": 4.0})
    failed = (frame["method"] == "C") & (frame["seed"] == 0)
    frame.loc[failed, ["coverage50", "coverage90"]] = np.nan
    drawn = study.calibration(fail(frame, failed), methods=["C", "A"])
    assert [axes.get_title(loc="left") for axes in drawn.axes if axes.get_visible()] == ["C", "A"]
    assert line(drawn.axes[0], LIGHT.series[0])[1] == pytest.approx([42, 72, 82, 87])
    assert {"90 % hold 82.0 %", "90 % hold 88.0 %"} <= set(texts(drawn))


@pytest.mark.filterwarnings("error")
def test_a_method_that_always_failed_has_an_empty_panel():
    frame = results(methods={"A": 1.0, "C": 4.0})
    failed = frame["method"] == "C"
    frame.loc[failed, [f"coverage{p}" for p in (50, 80, 90, 95)]] = np.nan
    drawn = study.calibration(fail(frame, failed), methods=["C", "A"])
    assert np.isnan(line(drawn.axes[0], LIGHT.series[0])[1]).all()
    assert {"90 % hold – %", "90 % hold 88.0 %"} <= set(texts(drawn))


def test_a_heat_map_has_a_row_a_scenario_and_marks_failures_and_gaps():
    frame = results(methods={"C": 4.0, "A": 1.0, "B": 2.0})
    frame = fail(frame, (frame["method"] == "B") & (frame["scenario"] == "two/s3"))
    frame = frame[~((frame["method"] == "C") & (frame["scenario"] == "one/s0"))]
    drawn = study.heat_map(frame)
    axes = drawn.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["A", "B", "C"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["s0", "s1", "s2", "s3", "all"]
    cells = {}
    for text in axes.texts:
        if text not in axes.get_yticklabels() and text.get_text() not in ("one", "two"):
            x, y = text.get_position()
            cells.setdefault(y, {})[x] = text.get_text()
    assert [list(cells[row].values()) for row in sorted(cells)] == [
        ["1.00", "2.00", "·"],
        ["1.00", "2.00", "4.00"],
        ["1.00", "2.00", "4.00"],
        ["1.00", "×", "4.00"],
        ["1.00", "2.00", "4.00"],
    ]
    bold = {t.get_text() for t in axes.texts if t.get_fontweight() == "bold"}
    assert bold == {"1.00", "one", "two"}


def test_a_heat_map_shows_who_errs_by_nothing_as_the_best():
    drawn = study.heat_map(results(methods={"A": 0.0, "B": 2.0}))
    shown = [text.get_text() for text in drawn.axes[0].texts]
    assert shown.count("1.00") == 5
    assert shown.count("999+") == 4
    assert "×" not in shown


def test_a_diagram_joins_what_does_not_differ():
    rng = np.random.default_rng(0)
    frame = results(20, 1, {"A": 1.0, "B": 1.0, "C": 1.0, "D": 9.0}, budgets=(5,))
    frame["mape"] *= np.exp(0.1 * rng.normal(size=len(frame)))
    found = critical_difference(frame)
    drawn = study.critical_difference_diagram(found)
    bars = [each for each in drawn.axes[0].lines if each.get_linewidth() == 3.5]
    ends = [[found.ranks[group[0]], found.ranks[group[-1]]] for group in found.groups]
    assert [list(bar.get_xdata()) for bar in bars] == ends
    assert len(bars) == 1
    written = texts(drawn)
    assert "4.00  D" in written
    assert any("20 scenarios, Friedman p < 0.001" in text for text in written)


def test_the_leading_methods_have_the_colours():
    methods = {name: float(factor) for factor, name in enumerate("ZYXWVUTSR", start=1)}
    assert study.leading(results(methods=methods)) == list("ZYXWVUT")


def test_the_heat_map_of_a_whole_study_is_a_small_file(tmp_path):
    methods = {f"a method of a name {i}": 1 + 0.3 * i for i in range(15)}
    write_figure(study.heat_map(results(36, 1, methods, budgets=(5,))), tmp_path / "map.svg")


def test_a_png_is_as_fine_as_its_size_allows_and_the_same_every_time(tmp_path):
    methods = {f"a method of a name {i}": 1 + 0.3 * i for i in range(7)}
    drawn = study.error_against_budget(results(8, 2, methods))
    for name in ("one", "two"):
        write_figure(drawn, tmp_path / f"{name}.png")
    one, two = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two"))
    assert one == two
    assert 20_000 < len(one) <= 200_000


def test_names_are_text_and_no_markup():
    drawn = study.error_against_budget(results(methods={"$A$<b>": 1.0}))
    assert b"$A$&lt;b&gt;" in as_svg(drawn)


def test_the_reference_alone_has_no_line():
    drawn = study.ratio_against_budget(results(methods={"B": 1.0}), "B")
    assert {"one", "two", "error over that of B"} <= set(texts(drawn))
