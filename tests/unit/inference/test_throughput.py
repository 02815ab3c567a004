"""Tokens per second of the last seconds."""

from __future__ import annotations

import pytest

from services.inference.throughput import Throughput


def test_a_steady_rate() -> None:
    throughput = Throughput(100.0)
    for tick in range(1000):
        throughput.add(1, 100.0 + tick / 50)
    assert throughput.per_second(120.0) == pytest.approx(50, rel=0.1)


def test_it_is_forgotten() -> None:
    throughput = Throughput(0.0)
    throughput.add(100, 1.0)
    assert throughput.per_second(1.2) > 50
    assert throughput.per_second(10.0) == 0
    throughput.add(10, 1000.0)
    assert 0 < throughput.per_second(1000.4) <= 20


def test_a_new_one_does_not_divide_by_its_age() -> None:
    throughput = Throughput(0.0)
    assert throughput.per_second(0.0) == 0
    throughput.add(5, 0.01)
    assert throughput.per_second(0.01) == 10
