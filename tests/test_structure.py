"""Leaves of nested containers: their paths, what is left without some, and where the others then are."""

from __future__ import annotations

from typing import Any

import pytest

from passes.regions.structure import leaves, renumbered, without

VALUE = ["a", {"k": ("b", "c"), 0: "d"}, ("e",), [], "f"]


def test_paths_lead_to_the_leaves() -> None:
    assert list(leaves(VALUE)) == [
        ((0,), "a"), ((1, "k", 0), "b"), ((1, "k", 1), "c"), ((1, 0), "d"), ((2, 0), "e"), ((4,), "f"),
    ]  # fmt: skip
    assert list(leaves("a")) == [((), "a")]


def test_containers_stay_when_their_leaves_go() -> None:
    assert without(VALUE, frozenset({(0,), (1, "k", 0), (2, 0)})) == [{"k": ("c",), 0: "d"}, (), [], "f"]
    assert without(VALUE, frozenset({(1, 0), (4,)})) == ["a", {"k": ("b", "c")}, ("e",), []]
    assert without(VALUE, frozenset()) == VALUE


@pytest.mark.parametrize("dropped", [{(0,)}, {(1, "k", 0)}, {(0,), (1, "k", 0)}, {(2, 0), (0,)}, {(1, 0)}, {(4,)}])
def test_a_leaf_is_found_again_once_others_are_gone(dropped: Any) -> None:
    left = without(VALUE, frozenset(dropped))
    for path, leaf in leaves(VALUE):
        if path not in dropped:
            at = left
            for key in renumbered(path, VALUE, frozenset(dropped)):
                at = at[key]
            assert at == leaf


def test_the_key_of_a_dict_is_not_renumbered_even_if_it_is_a_number() -> None:
    assert renumbered((1, 0), VALUE, frozenset({(0,)})) == (0, 0)
    assert renumbered((1,), {0: "a", 1: "b"}, frozenset({(0,)})) == (1,)
