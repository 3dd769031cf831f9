"""Threads that wait for each other."""

from __future__ import annotations

import os

import pytest

from kolmo.parallel import SPIN_COUNT, let_threads_sleep


@pytest.mark.parametrize(
    ("policy", "count", "expected"),
    [(None, None, str(SPIN_COUNT)), (None, "7", "7"), ("active", None, None), ("active", "7", "7")],
)
def test_threads_sleep_unless_the_user_has_chosen(
    policy: str | None, count: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("OMP_WAIT_POLICY", policy), ("GOMP_SPINCOUNT", count)):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, value)
    let_threads_sleep()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    assert os.environ.get("OMP_WAIT_POLICY") == policy
