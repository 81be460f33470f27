"""A kept model answers as it did to the last bit, and a damaged file never answers."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import numpy as safetensors

from bayestl.baselines.ridge import RidgeInteractions
from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.sampling import sample
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.errors import FileError
from bayestl.models.conformalized import Conformal
from bayestl.models.gp import LMCGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.persistence import load, save, sealed
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.models.sequential.target_block import FOLLOWS
from bayestl.models.transfer_gp import TransferGP

RECIPES = [MultiTaskGP(), LMCGP(3), TargetOnlyGP("identity"), SequentialGP(), TransferGP()]


@pytest.fixture(scope="module")
def space() -> ConfigSpace:
    """Every kind of option, a condition and a constraint."""
    return ConfigSpace(
        {
            "threads": Integer(1, 8),
            "mode": Categorical(("a", "b", "ü", 4)),
            "clock": Ordinal((300.5, 600, 1200)),
            "fused": Boolean(),
            "share": Real(1e-3, 1.0, log=True),
        },
        constraints=["threads <= 4 or fused == false"],
        conditions={"share": "fused"},
    )


@pytest.fixture(scope="module")
def table(space) -> MeasurementTable:
    """Three environments, one without measurements, and an outlier."""
    frame = sample(space, 24, seed=1)
    threads = frame["threads"].to_numpy(float)
    frame["latency"] = (3 + frame["fused"].astype(float)) / threads + 0.1 * np.arange(24) % 3
    frame.loc[3, "latency"] *= 40
    frame["environment"] = ["source"] * 16 + ["target"] * 8
    return MeasurementTable.from_frame(
        frame, options=space, metrics={"latency": "ms"}, environments=[Environment("new")]
    )


@pytest.fixture(scope="module")
def small(table):
    """A process whose file is small."""
    few = table.select(range(12, 20))
    return MultiTaskGP().at_mode(few, metric="latency", target="target")


@pytest.fixture
def kept(small, tmp_path) -> Path:
    """Its file."""
    small.save(tmp_path / "small.bayestl")
    return tmp_path / "small.bayestl"


def assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """To the last bit."""
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_a_kept_model_is_equal_to_the_last_bit(recipe, table, space, tmp_path):
    fitted = recipe.fit(table, metric="latency", target="target")
    fitted.save(tmp_path / "m.bayestl")
    found = load(tmp_path / "m.bayestl")
    configs = sample(space, 1_100, seed=2, distinct=False)  # in two blocks
    assert_equal(found.predict(configs), fitted.predict(configs))
    assert_equal(found.environment_correlation(), fitted.environment_correlation())
    for environment in (None, "source") if recipe != RECIPES[2] else (None,):
        belief, expected = (m.posterior(configs[:40], environment) for m in (found, fitted))
        for name in ("mean", "covariance", "noise_variance"):
            np.testing.assert_array_equal(getattr(belief, name), getattr(expected, name))
    assert json.dumps(found.diagnostics.to_dict()) == json.dumps(fitted.diagnostics.to_dict())
    assert found.space == fitted.space
    assert (found.metric, found.target) == (fitted.metric, fitted.target)
    save(found, tmp_path / "again.bayestl")
    assert (tmp_path / "again.bayestl").read_bytes() == (tmp_path / "m.bayestl").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.bayestl", "m.bayestl"]


def test_a_model_of_models_is_kept_with_all_of_them(table, space, tmp_path):
    recipe = Conformal(MultiTaskGP(), folds=2)
    repeated = table.select([*range(len(table)), 20, 20])
    fitted = recipe.fit(repeated, metric="latency", target="target")
    fitted.save(tmp_path / "m.bayestl")
    configs = sample(space, 20, seed=2)
    assert_equal(load(tmp_path / "m.bayestl").predict(configs), fitted.predict(configs))
    ridge = Conformal(RidgeInteractions()).fit(table, metric="latency", target="target")
    with pytest.raises(FileError, match="a FittedRegression cannot be kept"):
        ridge.save(tmp_path / "ridge.bayestl")


def test_another_process_and_another_number_of_threads_answer_equally(small, kept, space):
    code = (
        "import sys, torch; from bayestl.models.persistence import load; torch.set_num_threads(2)\n"
        "fitted = load(sys.argv[1])\n"
        "print([x.hex() for x in fitted.predict([fitted.space.default]).iloc[0]])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = small.predict([space.default]).iloc[0]
    assert done.stdout.strip() == str([x.hex() for x in expected])


def test_a_kept_process_goes_on_as_before(small, kept):
    found = load(kept)
    assert found.leave_one_out_calibration() == small.leave_one_out_calibration()
    torch.testing.assert_close(
        torch.stack(found.integrated(3).mixture.marginals(small.belief.x)),
        torch.stack(small.integrated(3).mixture.marginals(small.belief.x)),
        rtol=1e-9,
        atol=1e-9,
    )
    assert found.belief.solver.factor.stride() == small.belief.solver.factor.stride()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with one fault of those that disks, copies and editors make."""
    at, size = rng.randrange(len(content)), rng.randint(1, 64)
    match rng.randrange(7):
        case 0:
            flipped = content[at] ^ (1 << rng.randrange(8))
            return content[:at] + bytes([flipped]) + content[at + 1 :]
        case 1:
            return content[:at]
        case 2:
            return content[:at] + rng.randbytes(size) + content[at:]
        case 3:
            return content[:at] + content[at + size :]
        case 4:
            block = content[at : at + size]
            return content[: at + size] + block + content[at + size + len(block) :] + b"\0"
        case 5:
            other = rng.randrange(len(content))
            first, second = sorted((at, other))
            blocks = content[first : first + size], content[second : second + size]
            swapped = content[:first] + blocks[1] + content[first + size : second]
            return swapped + blocks[0] + content[second + size :]
        case _:
            return content[:at] + bytes(min(size, len(content) - at)) + content[at + size :]


def test_a_thousand_damages_are_a_thousand_clear_errors(kept, tmp_path):
    content, rng, tried = kept.read_bytes(), random.Random(0), 0
    path = tmp_path / "damaged.bayestl"
    while tried < 1_000:
        changed = damaged(content, rng)
        if changed == content:  # zeros were zeroed
            continue
        path.write_bytes(changed)
        with pytest.raises(
            FileError, match=r"is damaged: its checksum|no model that bayestl saved"
        ):
            load(path)
        tried += 1


def parts(content: bytes) -> tuple[dict, dict]:
    """The description and the arrays of a file."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["bayestl"]), safetensors.load(content)


def forged(description: dict, arrays: dict, path: Path) -> Path:
    """A file that says something else, with the checksum that is due."""
    description = {**description, "sha256": "0" * 64}
    path.write_bytes(sealed(safetensors.save(arrays, {"bayestl": json.dumps(description)})))
    return path


def test_a_file_without_what_was_added_since_answers_as_it_did(table, tmp_path):
    """Older files of a sequential model do not say how its sources are followed, and how far.

    Nor do they know overheads, which are there on a logarithmic scale alone. Of covariances they
    have the inverses.
    """
    recipe = SequentialGP(transform="identity")
    fitted = recipe.fit(table, metric="latency", target=table.environment_names[0])
    path = tmp_path / "older.bayestl"
    fitted.save(path)
    description, arrays = parts(path.read_bytes())
    del arrays["follows"], arrays["relative"], arrays["reliability"]
    arrays = {name: array for name, array in arrays.items() if not name.endswith(".overhead")}
    for name in [name for name in arrays if re.search(r"part\d+\.half$", name)]:
        half, inverse = arrays.pop(name), name.removesuffix("half") + "inverse"
        arrays[inverse] = half.mT @ half
        description["model"]["layouts"][inverse] = [0, 1, 2]
    del description["model"]["plain"]["unit"]
    del description["model"]["plain"]["scales"], description["model"]["plain"]["placing"]
    older = load(forged(description, arrays, path))
    assert older.block.prior.follows == FOLLOWS
    kept = fitted.block.prior.sources.reliability
    torch.testing.assert_close(older.block.prior.sources.reliability, kept)
    configs = table.configurations()
    pd.testing.assert_frame_equal(older.predict(configs), fitted.predict(configs), rtol=1e-6)


@pytest.mark.parametrize("column", ["q05", "q50", "q95", "mean", "std"])
def test_a_model_that_answers_otherwise_is_refused(column, make_table, tmp_path):
    """Also where an outlier a thousandfold off makes the mean and the std meaningless."""
    table = make_table({"source": (40, 1.0, 0.0), "target": (20, 1.0, 0.5)})
    table.frame.loc[50, "latency"] *= 1000
    path = tmp_path / "kept.bayestl"
    SequentialGP().fit(table, metric="latency", target="target").save(path)
    description, arrays = parts(path.read_bytes())
    probe = description["probe"]
    forged(description, arrays, path)
    load(path)
    probe[column] = [1.01 * value for value in probe[column]]
    forged(description, arrays, path)
    with pytest.raises(FileError, match="answer otherwise"):
        load(path)


def test_a_file_of_the_future_is_told_apart(kept):
    description, arrays = parts(kept.read_bytes())
    forged({**description, "format": 2, "bayestl": "9.0"}, arrays, kept)
    with pytest.raises(FileError, match=r"written by bayestl 9.0 in format 2, this .* newer"):
        load(kept)


def test_a_version_that_answers_otherwise_is_told_apart(kept, monkeypatch):
    assert load(kept)
    monkeypatch.setattr("bayestl.models.gaussian_process.kernels.OWN_OFFSET", 24.0)
    with pytest.raises(FileError, match="whose models answer otherwise"):
        load(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "RandomForest"}, "unknown kind of model 'RandomForest'"),
        ({"kind": ["FittedGP"]}, "holds no model"),
        ({"plain": []}, "tables of values"),
        ({"members": {"a": {"kind": "FittedGP"}}}, "holds no model"),
        ({"target": 3}, "expected target as str"),
        ({"target": "elsewhere"}, "unknown environment 'elsewhere'"),
        ({"latents": 10**9}, "at least one latent"),
        ({"latents": 2}, r"expected parameters of float64"),
        ({"latents": True}, "expected latents as int"),
        ({"stretch": 0}, "expected stretch as bool"),
        ({"processes": 2}, "expected an array parameters"),
        ({"processes": 0}, "holds no model"),
        ({"mixed": [7]}, "holds no model"),
        ({"mixed": []}, "holds no model"),
        ({"environments": ["target"]}, "measurements in 1 environments"),
        ({"environments": "target"}, "expected environments as list"),
        ({"table_order": [1]}, "expected table_order as a list of str"),
        ({"scaling": {"log": True, "centre": 0.0, "spread": -1.0}}, "expected a scaling"),
        ({"scaling": {"log": True, "centre": float("nan"), "spread": 1.0}}, "expected a scaling"),
        ({"scaling": {"log": True, "centre": "0", "spread": 1.0}}, "holds no model"),
        ({"space": {"options": {"x": {"kind": "oracle"}}}}, "expected a kind out of"),
        ({"space": {"options": {"x": {"kind": "boolean"}}}}, "expected x of float64"),
        ({"metric": {"name": "latency", "factor": 2}}, "factor"),
        ({"diagnostics": {}}, "holds no model"),
    ],
)
def test_structure_is_checked_whatever_the_checksum_says(kept, change, message):
    description, arrays = parts(kept.read_bytes())
    model = description["model"]
    for key, value in change.items():
        (model if key in model else model["plain"])[key] = value
    with pytest.raises(FileError, match=message):
        load(forged(description, arrays, kept))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("0.factor", lambda a: a[:-1], "expected factor of float64"),
        ("0.factor", lambda a: -a, "positive diagonal"),
        ("0.alpha", lambda a: a * np.nan, "finite values in alpha"),
        ("0.alpha", lambda a: a * 2, "answer otherwise"),
        ("0.parameters", lambda a: a + 0.1, "answer otherwise"),
        ("0.jitter", lambda a: a.astype(np.float32), "expected jitter of float64"),
        ("x", lambda a: a[None], "axes don't match"),
        ("x", lambda a: a[:, 1:], "expected x of float64"),
        ("x", lambda a: a + 0.5, "measurements in 3 environments"),
        ("z", lambda _: np.zeros((0, 10**12)), "axes don't match"),
        ("z", None, "expected an array z"),
    ],
)
def test_arrays_are_checked_whatever_the_checksum_says(kept, name, change, message):
    description, arrays = parts(kept.read_bytes())
    array = arrays.pop(name)
    if change is not None:
        arrays[name] = change(array)
    with pytest.raises(FileError, match=message):
        load(forged(description, arrays, kept))


def test_deep_nests_are_refused(kept):
    description, arrays = parts(kept.read_bytes())
    inner = description["model"]
    for _ in range(6):
        inner = {"kind": "FittedTransferGP", "plain": {}, "members": {"a": inner}}
    with pytest.raises(FileError, match="holds no model"):
        load(forged({**description, "model": inner}, arrays, kept))


@pytest.mark.parametrize(
    "header",
    [
        b'{"z":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]},%s}',
        b'{"z":{"dtype":"F64","shape":[1000000000000],"data_offsets":[0,8000000000000]},%s}',
        b'{"z":{"dtype":"F64","shape":[-1],"data_offsets":[0,0]},%s}',
        b'{"z":{"dtype":"F99","shape":[1],"data_offsets":[0,8]},%s}',
        b"{%s",
        b"{%s}" + b"[" * 100_000,
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_taken(kept, header):
    text = json.dumps(json.dumps(parts(kept.read_bytes())[0] | {"sha256": "0" * 64}))
    header = header % f'"__metadata__":{{"bayestl":{text}}}'.encode()
    kept.write_bytes(sealed(len(header).to_bytes(8, "little") + header + bytes(8)))
    with pytest.raises(FileError, match="holds no model"):
        load(kept)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"PAR1", b"\x80\x04K\x01.", b"\x08" + bytes(7) + b'{"a":{}}']
)
def test_what_is_no_model(tmp_path, content):
    (tmp_path / "m.bayestl").write_bytes(content)
    with pytest.raises(FileError, match="no model that bayestl saved"):
        load(tmp_path / "m.bayestl")


def test_a_file_that_cannot_be_read_or_written(tmp_path, small):
    with pytest.raises(FileError, match="No such file"):
        load(tmp_path / "m.bayestl")
    with pytest.raises(FileError, match=r"cannot read .*directory"):
        load(tmp_path)
    with pytest.raises(FileError, match="cannot write"):
        small.save(tmp_path / "nowhere" / "m.bayestl")


def test_a_file_that_is_too_large(kept, monkeypatch):
    monkeypatch.setattr("bayestl.models.persistence.MAX_BYTES", 100)
    with pytest.raises(FileError, match="at most 100 bytes"):
        load(kept)


def test_regressors_of_other_libraries_are_refused(table, tmp_path):
    fitted = RidgeInteractions().fit(table, metric="latency", target="target")
    with pytest.raises(FileError, match=r"FittedRegression cannot be kept .*TransferGP"):
        fitted.save(tmp_path / "m.bayestl")
    assert not list(tmp_path.iterdir())


def test_rare_configurations_are_probed_at_the_default(tmp_path):
    options = {name: Real(0.0, 1.0, default=0.0) for name in "abc"}
    space = ConfigSpace(options, constraints=["a + b + c <= 0.0001"])
    frame = space.frame([space.default]).assign(y=[2.0])
    table = MeasurementTable.from_frame(
        frame, options=space, metrics={"y": "s"}, environment=Environment("here")
    )
    fitted = TargetOnlyGP().fit(table, metric="y", target="here")
    fitted.save(tmp_path / "m.bayestl")
    assert_equal(load(tmp_path / "m.bayestl").predict(frame), fitted.predict(frame))


def test_a_model_that_could_not_be_read_is_not_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr("bayestl.models.persistence.MAX_BYTES", 200)
    with pytest.raises(FileError, match=r"expected at most 0.0 GB; fit it to fewer rows by most_r"):
        small.save(tmp_path / "large.bayestl")
    assert not list(tmp_path.iterdir())
