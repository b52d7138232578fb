import pytest

from dfad_fast.errors import UsageError
from dfad_fast.terms import (
    KL,
    L1,
    TERMS,
    ActivationBoundary,
    Hint,
    Term,
    VirtualInterpolation,
    Weighted,
    parse_terms,
)


def test_a_sum_of_terms_becomes_the_rows_of_a_table():
    assert parse_terms("l1 + 0.1*boundary(margin=0.5, schedule=linear) + virtual(alpha=1.0)", TERMS) == (
        Weighted(1.0, L1()),
        Weighted(0.1, ActivationBoundary(margin=0.5), "linear"),
        Weighted(1.0, VirtualInterpolation(alpha=1.0)),
    )


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("-l1", [Weighted(-1.0, L1())]),
        ("-2 * l1 - 3e-1 * kl(temperature=4)", [Weighted(-2.0, L1()), Weighted(-0.3, KL(temperature=4))]),
        ("2*(l1 - 2*kl)", [Weighted(2.0, L1()), Weighted(-4.0, KL())]),
        ("  l1()", [Weighted(1.0, L1())]),
        ("2*3*l1", [Weighted(6.0, L1())]),
        ("+0.1*l1", [Weighted(0.1, L1())]),
        ("hint(stage=-2)", [Weighted(1.0, Hint(stage=-2))]),
        ("kl(direction='reverse')", [Weighted(1.0, KL(direction="reverse"))]),
        (
            "virtual(policy=learned, intrusion=2, labels=teacher)",
            [Weighted(1.0, VirtualInterpolation(policy="learned", intrusion=2, labels="teacher"))],
        ),
        (
            "virtual(labels=teacher, per_image=False)",
            [Weighted(1.0, VirtualInterpolation(labels="teacher", per_image=False))],
        ),
    ],
)
def test_signs_factors_and_settings(text, rows):
    assert list(parse_terms(text, TERMS)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read"),
        ("l1 +", "cannot read"),
        ("l1 / 2", "cannot read 'l1 / 2'"),
        ("l1 * 2", "cannot read"),
        ("boundary(0.5)", "cannot read 'boundary\\(0.5\\)'"),
        ("boundary(**x)", "cannot read"),
        ("__import__('os').system('true')", "cannot read"),
        ("boundary(margin=1, margin=2)", "cannot read"),
        ("1e999*l1", "cannot read '1e309'"),
        pytest.param("1" + 400 * "0" + "*l1", "cannot read", id="large"),
        ("batch_norm_kl(eps=1e999)", "cannot read"),
        pytest.param("l1" + 20_000 * " + l1", "cannot read the terms 'l1 \\+ l1", id="long"),
        pytest.param(100_000 * "-" + "l1", "cannot read the terms", id="deep"),
        pytest.param("0x" + 5000 * "f" + "*l1", "cannot read the terms", id="hexadecimal"),
        ("1e30*1e30*l1", "the weight of l1 in the terms is 1e\\+60"),
        ("bondary", "unknown term 'bondary': did you mean 'boundary'"),
        ("boundary(margn=1)", "unknown setting of boundary 'margn': did you mean 'margin'"),
        ("boundary(margin=wide)", "boundary: margin must be a number such as 1.0, got 'wide'"),
        ("hint(stage=0.5)", "hint: stage must be a whole number such as -1, got 0.5"),
        ("virtual(per_image=1)", "virtual: per_image must be True or False, got 1"),
        ("l1(schedule=sudden)", "unknown schedule 'sudden'"),
        ("virtual(alpha=-1)", "alpha must be > 0, got -1"),
        ("kl(temperature=0)", "temperature must be > 0, got 0"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text, message):
    with pytest.raises(UsageError, match=message):
        parse_terms(text, TERMS)


def test_nothing_in_the_text_is_run(tmp_path):
    victim = tmp_path / "victim"
    with pytest.raises(UsageError):
        parse_terms(f"l1(schedule=open({str(victim)!r}, 'w'))", TERMS)
    assert not victim.exists()


def test_a_users_own_term_without_settings():
    class Own(Term):
        name = "own"

    (row,) = parse_terms("3*own", {"own": Own})
    assert isinstance(row.term, Own)
    with pytest.raises(UsageError, match="unknown setting of own"):
        parse_terms("own(a=1)", {"own": Own})
