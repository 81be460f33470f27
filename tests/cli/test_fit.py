import numpy as np
import pandas as pd
import pytest

from bayestl.data.environment import Environment
from bayestl.data.readers import write_table
from bayestl.data.table import MeasurementTable

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
QUICK = ("--model", "RidgeInteractions", "--folds", 3)
CSV = ("--options", "threads,batch,spin", "--metric", "latency", "--target", "all-cores")


def test_fit_says_what_was_learnt(bayestl, parquet):
    arguments = ("fit", parquet, "--metric", "latency", "--target", "all-cores")
    found = bayestl(*arguments, "--model", "MultiTaskGP", "--folds", 2, "--json")
    assert found.code == 0, found.err
    values = found.json
    assert values["unit"] == "ms"
    assert values["n_target"] > 5
    assert values["cross_validation"]["mape"] < 20
    assert values["effects"][0]["option"] == "threads"
    assert values["environment_correlation"]["one-core"]["all-cores"] > 0.5


def test_fit_is_readable(bayestl, parquet):
    text = bayestl("fit", parquet, "--metric", "latency", "--target", "all-cores", *QUICK).out
    assert "held-out error" in text
    assert "share of variance" in text


def test_a_model_takes_parameters(bayestl, refused, parquet):
    arguments = ("fit", parquet, "--metric", "latency", "--target", "all-cores", "--folds", 0)
    lmc = ("--model", "LMCGP", "--parameter", "latents=3")
    assert "latents=3" in bayestl(*arguments, *lmc, "--json").json["model"]
    assert "no parameter 'depth'" in refused(*arguments, *QUICK, "--parameter", "depth=3")
    assert "unknown model 'Oracle'" in refused(*arguments, "--model", "Oracle")
    both = ("--model", "TransferGP", "--parameter", "latents=many,2")
    assert "got ('many', 2)" in refused(*arguments, *both)


def test_a_csv_needs_its_columns_named(bayestl, refused, rows, tmp_path):
    rows.to_csv(tmp_path / "t.csv", index=False)
    named = ("fit", tmp_path / "t.csv", *CSV, "--metrics", "latency:ms", *QUICK, "--json")
    assert bayestl(*named).json["unit"] == "ms"
    unnamed = ("fit", tmp_path / "t.csv", "--metric", "latency", "--target", "all-cores")
    assert "--options" in refused(*unnamed, code=2)
    assert "--folds 0 for none, or 2 or more" in refused(*named[:-1], "--folds", 1, code=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--target", "nowhere"), "unknown environment 'nowhere'; expected one of"),
        (("--metric", "speed"), "unknown metric 'speed'; expected one of latency"),
    ],
)
def test_unknown_names(refused, parquet, changed, message):
    arguments = ("fit", parquet, "--metric", "latency", "--target", "all-cores", *changed)
    assert message in refused(*arguments, *QUICK)


def test_values_that_are_not_positive_under_a_log(refused, rows, tmp_path):
    rows.loc[3, "latency"] = -1.0
    rows.to_csv(tmp_path / "t.csv", index=False)
    model = ("--model", "MultiTaskGP", "--parameter", "transform=log")
    assert "needs positive values" in refused("fit", tmp_path / "t.csv", *CSV, *model)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "is NaN"), (np.inf, "infinite value")])
def test_values_that_are_no_finite_numbers(refused, rows, tmp_path, value, message):
    rows.loc[3, "latency"] = value
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert message in refused("fit", tmp_path / "t.csv", *CSV, *QUICK)


def test_an_empty_table(refused, tmp_path):
    (tmp_path / "t.csv").write_text("threads,batch,spin,environment,latency\n")
    assert "empty table" in refused("fit", tmp_path / "t.csv", *CSV, *QUICK)
    (tmp_path / "t.csv").write_text("")
    assert "empty file" in refused("fit", tmp_path / "t.csv", *CSV, *QUICK)


def test_a_duplicate_column(refused, tmp_path):
    (tmp_path / "t.csv").write_text("threads,threads,latency\n1,1,2.0\n")
    assert "duplicate column 'threads'" in refused("fit", tmp_path / "t.csv", *CSV, *QUICK)


def test_a_target_without_measurements_and_no_source(refused, rows, tmp_path):
    table = MeasurementTable.from_frame(
        rows.assign(status="crash"),
        options=["threads", "batch", "spin"],
        metrics={"latency": "ms"},
        environments=[Environment("new")],
        status="status",
    )
    write_table(table, tmp_path / "t.parquet")
    arguments = ("fit", tmp_path / "t.parquet", "--metric", "latency", "--target", "new")
    assert "measure" in refused(*arguments)


def test_a_target_without_measurements_and_a_source(bayestl, parquet):
    arguments = ("fit", parquet, "--metric", "latency", "--target", "new", "--model", "MultiTaskGP")
    result = bayestl(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.json["n_target"] == 0
    assert result.json["cross_validation"] is None


def test_a_file_that_is_missing_or_no_table(refused, tmp_path):
    arguments = ("--metric", "latency", "--target", "x")
    for name in ("t.parquet", "t.csv"):
        assert "No such file" in refused("fit", tmp_path / name, *arguments)
    (tmp_path / "t.parquet").write_text("no parquet")
    assert "malformed" in refused("fit", tmp_path / "t.parquet", *arguments)


def test_a_value_outside_its_domain_names_the_row(refused, parquet, tmp_path):
    (tmp_path / "c.csv").write_text("threads,batch,spin\n1,1,true\n99,1,true\n")
    arguments = ("predict", parquet, tmp_path / "c.csv", "--metric", "latency")
    message = refused(*arguments, "--target", "all-cores", *QUICK[:2])
    assert "row 1" in message
    assert "expected a whole number in [1, 8], got '99'" in message


def test_a_violated_constraint(refused, parquet, tmp_path):
    (tmp_path / "c.csv").write_text("threads,batch,spin\n8,4,true\n")
    arguments = ("predict", parquet, tmp_path / "c.csv", "--metric", "latency")
    message = refused(*arguments, "--target", "all-cores", *QUICK[:2])
    assert "violates the constraint 'threads * batch <= 16'" in message


def predict(parquet, tmp_path, *more):
    (tmp_path / "c.csv").write_text("threads,batch,spin\n1,1,true\n8,2,false\n")
    arguments = ("predict", parquet, tmp_path / "c.csv", "--metric", "latency")
    return (*arguments, "--target", "all-cores", *QUICK[:2], *more)


def test_predictions_have_their_quantiles(bayestl, parquet, tmp_path):
    more = ("--quantiles", "0.1,0.9", "--output", tmp_path / "p.csv", "--json")
    result = bayestl(*predict(parquet, tmp_path, *more))
    assert result.code == 0, result.err
    frame = pd.read_csv(tmp_path / "p.csv")
    assert list(frame.columns) == ["threads", "batch", "spin", "mean", "std", "q10", "q90"]
    assert (frame["q10"] < frame["q90"]).all()
    assert [p["mean"] for p in result.json["predictions"]] == pytest.approx(list(frame["mean"]))
    assert "latency [ms]" in bayestl(*predict(parquet, tmp_path)).out


def test_a_saved_model_predicts_without_its_table(bayestl, refused, parquet, tmp_path):
    kept, configs = tmp_path / "m.bayestl", tmp_path / "c.csv"
    configs.write_text("threads,batch,spin\n1,1,true\n8,2,false\n")
    described = ("--metric", "latency", "--target", "all-cores", "--model", "MultiTaskGP")
    fitted = bayestl("fit", parquet, *described, "--folds", 0, "--save", kept, "--json")
    assert fitted.json["saved"] == str(kept)
    fresh = bayestl("predict", parquet, configs, *described, "--json").json
    assert bayestl("predict", kept, configs, "--json").json == fresh
    elsewhere = bayestl("predict", kept, configs, "--target", "one-core", "--json").json
    assert elsewhere["target"] == "one-core"
    assert elsewhere["predictions"][0]["mean"] > fresh["predictions"][0]["mean"]
    assert "fitted already" in refused("predict", kept, configs, *described[:2], code=2)
    assert "--metric and --target" in refused("predict", parquet, configs, code=2)
    kept.write_bytes(kept.read_bytes()[:-1])
    assert "is damaged" in refused("predict", kept, configs)


def test_a_model_that_cannot_be_saved(refused, parquet, tmp_path):
    arguments = ("fit", parquet, "--metric", "latency", "--target", "all-cores", *QUICK)
    assert "cannot be kept" in refused(*arguments, "--save", tmp_path / "m.bayestl")


def test_quantiles_that_are_none(refused, parquet, tmp_path):
    for text in ("x", "0,1", "", "0.5,0.5"):
        command = predict(parquet, tmp_path, "--quantiles", text)
        assert "--quantiles" in refused(*command, code=2)


def test_a_full_disk(refused, parquet, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    command = predict(parquet, tmp_path, "--output", tmp_path / "p.csv")
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        message = refused(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in message
    assert not list(tmp_path.glob("*p.csv*"))


def test_no_permission(refused, parquet, tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied", "p.csv")

    monkeypatch.setattr("bayestl.data.files.os.replace", denied)
    command = predict(parquet, tmp_path, "--output", tmp_path / "p.csv")
    assert "cannot write" in (message := refused(*command))
    assert "Permission denied" in message
