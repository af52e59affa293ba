"""Dotted keys: tables made of them are tables of their own."""

from __future__ import annotations

import pytest

from shoestring.studies.keys import nested


def test_a_table_given_as_a_value_stays_as_it_was() -> None:
    value = {"kind": "mezo", "solver": {"lr": 1.0}}
    made = nested({"method": value, "method.lr": 1e-6, "method.solver.lr": 2.0})
    assert made == {"method": {"kind": "mezo", "lr": 1e-6, "solver": {"lr": 2.0}}}
    assert value == {"kind": "mezo", "solver": {"lr": 1.0}}


def test_a_key_through_a_plain_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method\.lr: method has a value already, 'mezo'"):
        nested({"method": "mezo", "method.lr": 1e-6})
