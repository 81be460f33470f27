from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from bayestl.models.sequential.hypotheses import (
    DOUBT,
    NOISE_DOUBT,
    OVERHEAD,
    OVERHEAD_DOUBT,
    REACHES,
    RELATIONS,
    STRETCHES,
    UNKNOWN_NOISE,
    UNRELATED,
    Hypotheses,
    Relation,
    draw,
)

ALWAYS = {"offset", "noise", "reach", "stretch", "relation"}
TERMS = {
    "slope": "slope",
    "overhead": "overhead",
    "contrast": "contrasts",
    "shift": "shift",
    "residual": "residual",
    "oddness": "sources",
    "own_oddness": "sources",
}
"""Field of Hypotheses -> what a relation says of it."""


def test_they_are_the_same_every_time():
    (first, shares), (second, again) = (draw(RELATIONS, 0.1) for _ in range(2))
    for field in fields(Hypotheses):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name))
    assert torch.equal(shares, again)


@pytest.mark.parametrize("relations", [RELATIONS, (UNRELATED,), RELATIONS[:1]])
def test_their_probabilities_sum_to_one_and_relations_are_equally_likely(relations):
    hypotheses, log_shares = draw(relations, 0.1)
    assert len(hypotheses) == len(log_shares) == sum(r.draws * (1 + r.sources) for r in relations)
    assert log_shares.dtype == torch.float64
    assert log_shares.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    for position in range(len(relations)):
        share = log_shares.exp()[hypotheses.relation == position].sum().item()
        assert share == pytest.approx(1 / len(relations), abs=1e-6)


def test_every_field_is_a_term_or_always_there():
    assert {field.name for field in fields(Hypotheses)} == ALWAYS | set(TERMS)


@pytest.mark.parametrize("relation", [*RELATIONS, UNRELATED], ids=lambda r: r.name)
def test_a_relation_switches_terms_off(relation: Relation):
    hypotheses, _ = draw((relation,), 0.1)
    either = relation.slope and relation.overhead
    if either:
        assert ((hypotheses.slope > 0) != (hypotheses.overhead != 0)).all()
    for name, says in TERMS.items():
        found = getattr(hypotheses, name)
        if either and name in ("slope", "overhead"):
            assert (found != 0).double().mean().item() == 0.5
        elif getattr(relation, says):
            assert (found != 0).all() if name == "overhead" else (found > 0).all(), name
            assert len(found.unique()) > relation.draws // 2
        else:
            assert (found == 0).all(), name
    assert (hypotheses.noise > 0).all()
    assert (hypotheses.offset > 0).all()


def test_an_overhead_is_the_targets_or_the_sources():
    (relation,) = (r for r in RELATIONS if r.name == "overhead")
    overhead = draw((replace(relation, draws=256),), 0.1)[0].overhead
    for side in (overhead[overhead > 0], -overhead[overhead < 0]):
        assert len(side) == 256
        assert side.log().median().exp().item() == pytest.approx(OVERHEAD, rel=0.05)
        assert side.log().std().item() == pytest.approx(OVERHEAD_DOUBT, rel=0.05)


def test_without_overheads_slopes_stand_in_every_draw_and_one_relation_less():
    hypotheses, log_shares = draw(RELATIONS, 0.1, overheads=False)
    assert (hypotheses.overhead == 0).all()
    assert log_shares.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    names = [RELATIONS[position].name for position in hypotheses.relation.unique().tolist()]
    assert names == [r.name for r in RELATIONS if r.name != "overhead"]
    sloping = torch.tensor([r.slope for r in RELATIONS])[hypotheses.relation]
    assert torch.equal(hypotheses.slope > 0, sloping)


def test_positions_point_at_what_they_are_positions_of():
    hypotheses, _ = draw(RELATIONS, 0.1)
    for found, of in ((hypotheses.reach, REACHES), (hypotheses.stretch, STRETCHES)):
        assert found.dtype == torch.long
        assert set(found.tolist()) == set(range(len(of)))
    assert set(hypotheses.relation.tolist()) == set(range(len(RELATIONS)))


@pytest.mark.parametrize("noise", [0.001, 0.02, 1.0])
def test_the_noise_is_like_the_sources_or_anything_up_to_the_unknown(noise):
    for relation in RELATIONS:
        hypotheses, _ = draw((relation,), noise)
        like, unlike = hypotheses.noise.log().chunk(2)
        assert like.median().exp().item() == pytest.approx(noise, rel=0.2)
        if relation.draws > 16:
            assert like.std().item() == pytest.approx(NOISE_DOUBT, rel=0.2)
        high = max(UNKNOWN_NOISE, noise)
        assert unlike.min().exp().item() >= noise * (1 - 1e-9)
        assert unlike.max().exp().item() <= high * (1 + 1e-9)
        assert unlike.median().exp().item() == pytest.approx(np.sqrt(noise * high), rel=0.5)
        for field in fields(Hypotheses):
            if field.name != "noise":  # all else stands with either
                assert torch.equal(*getattr(hypotheses, field.name).chunk(2))


def test_the_noise_of_the_unrelated_is_hardly_known():
    logs = draw((UNRELATED,), UNKNOWN_NOISE)[0].noise.log()
    assert logs.median().exp().item() == pytest.approx(UNKNOWN_NOISE, rel=0.1)
    assert logs.std().item() == pytest.approx(DOUBT, rel=0.1)


def test_oddness_is_a_share():
    hypotheses, _ = draw(RELATIONS, 0.1)
    assert ((hypotheses.oddness >= 0) & (hypotheses.oddness <= 1)).all()


def test_rows_and_what_is_joined():
    hypotheses, _ = draw(RELATIONS, 0.1)
    first, rest = torch.arange(len(hypotheses)).tensor_split([20])
    parts = [hypotheses.rows(first), hypotheses.rows(rest)]
    joined = Hypotheses.joined([*parts, hypotheses.rows(torch.tensor([], dtype=torch.long))])
    for field in fields(Hypotheses):
        expected = getattr(hypotheses, field.name)
        assert torch.equal(getattr(joined, field.name), expected)
