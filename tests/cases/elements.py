"""Results of nested graphs that no caller uses, out of tuples, lists and dicts."""

from __future__ import annotations

from torch import Tensor

from tests.cases.case import NOT_FX, case
from tests.cases.nested import computes, gathers
from tests.cases.regions import region
from tests.cases.sites import embedded, indexed, site


@region
def returns_dict(x: Tensor, prior: Tensor) -> dict[str, Tensor]:
    return {"hidden": x + 1, "prior": prior * 2}


@region
def returns_nested(x: Tensor, *, prior: Tensor) -> dict[str, object]:
    return {"cache": (prior * 2, prior.transpose(2, 3)), "hidden": [x + 1, x - 1]}


@region
def forwards(x: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    hidden, scaled = computes(x, prior)[0], computes(x, prior)[1]
    return hidden, scaled.neg()


# tuple_element: a result that no caller uses.
@case("tuple_element", "second_of_two", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return computes(x, site(past_key_values_0, block_table))[0]


@case("tuple_element", "dict", goes=True, levels=("fx",))
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return returns_dict(x, indexed(past_key_values_0, block_table))["hidden"]


@case("tuple_element", "tuple_in_dict_by_keyword", goes=True, levels=("fx",))
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    results = returns_nested(x, prior=embedded(past_key_values_0, block_table))
    return results["hidden"][1] + results["hidden"][0]


@case("tuple_element", "two_callers", goes=True, before=2)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = computes(x, site(past_key_values_0, block_table))
    return computes(first[0], site(past_key_values_0, block_table))[0]


@case("tuple_element", "through_an_outer_region", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return forwards(x, embedded(past_key_values_0, block_table))[0]


@case("tuple_element", "taken_and_dropped", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    results = gathers(x, past_key_values_0, block_table)
    results[1].mul(2).sum()
    return results[0]


@case("tuple_element", "twin_one_of_two_callers", goes=True, before=2, after=1)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = computes(x, site(past_key_values_0, block_table))
    second = computes(first[0], site(past_key_values_0, block_table))
    return second[0], second[1]


@case("tuple_element", "twin_used", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    results = computes(x, site(past_key_values_0, block_table))
    return results[0] + results[1]


@case("tuple_element", "twin_whole_dict_returned", goes=False, levels=("fx",))
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return returns_dict(x, site(past_key_values_0, block_table))


@case("tuple_element", "twin_used_through_an_outer_region", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return forwards(x, site(past_key_values_0, block_table))[1]
