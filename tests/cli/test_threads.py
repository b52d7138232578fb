import os

import pytest

from dfad_fast.cli.threads import wait_briefly


def test_waiting_threads_sleep_soon_where_nothing_else_is_said(monkeypatch):
    monkeypatch.setattr(os, "environ", environment := {})
    wait_briefly()
    assert environment == {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize("said", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}])
def test_what_the_environment_says_stays(monkeypatch, said):
    monkeypatch.setattr(os, "environ", environment := dict(said))
    wait_briefly()
    assert environment == said
