"""Contracts read off an operator's own implementation: what goes, what stays, and what is not believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._decomp import decomposition_table, register_decomposition
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from passes import PassPipeline, PrunePrefixCache, PruneVerificationError, register_contract, verify_prune
from passes.contracts import Contract, Contracts, EmptyTensor
from passes.inference import InferringContracts, infer_contract
from passes.ops.schema import Call, resolve
from passes.registration import DEFAULT_CONTRACTS
from passes.specs import make_pass
from tests.support.builder import GraphBuilder, aten, decode_inputs
from tests.support.prunes import assert_same_behaviour, check_prune
from tracing import capture
from tracing.decoder import build_decoder
from tracing.decoder.attention_samples import attention_samples
from tracing.graph import document, text
from tracing.testing import Sample, check_contract
from tracing.testing.samples import bound_call

LIBRARY = torch.library.Library("inferlib", "DEF")


def define(schema: str, body: Callable[..., Any], key: str = "CompositeExplicitAutograd") -> None:
    name = schema.split("(")[0]
    LIBRARY.define(schema)
    torch.library.impl(LIBRARY, name, key)(body)
    if key != "CompositeImplicitAutograd":
        fake = (lambda x, *rest, **named: (torch.empty_like(x), torch.empty_like(x))) if "(Tensor, Tensor)" in schema \
            else (lambda x, *rest, **named: torch.empty_like(x))  # fmt: skip
        torch.library.register_fake(f"inferlib::{name}", fake, lib=LIBRARY)


def attend(x: Tensor, pool: Tensor, table: Tensor | None = None, prior: Tensor | None = None) -> Tensor:
    if table is None:
        assert prior is not None
        return x + prior
    return x + pool[table.clamp(min=0).long()].sum()


def store(x: Tensor, pool: Tensor, prior: Tensor) -> Tensor:
    pool[0].copy_(x.flatten()[: pool[0].numel()].view_as(pool[0]))
    return x + prior.shape[0]


def present(x: Tensor, prior: Tensor | None = None) -> Tensor:
    return x if prior is None else x + 1


def present_in_part(x: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
    return x + 1 if a is None and b is None else x + 2


def scratch(x: Tensor, prior: Tensor) -> Tensor:
    """Writes `prior` into memory of its own, which nobody reads."""
    buffer = torch.zeros_like(prior)
    buffer.copy_(prior)
    return x + torch.tensor([2.0])


LOG: list[int] = []
STATE = torch.zeros(1)


def counted(x: Tensor, prior: Tensor) -> Tensor:
    LOG.append(1)
    return x + len(LOG)


def stateful(x: Tensor, prior: Tensor) -> Tensor:
    STATE.add_(1)
    return x + 1


def branches(x: Tensor, prior: Tensor) -> Tensor:
    return x + 1 if bool(prior.sum() > 0) else x + 2


SCHEMA = "(Tensor x, Tensor prior) -> Tensor"
define("attend(Tensor x, Tensor pool, Tensor? table=None, Tensor? prior=None) -> Tensor", attend)
define("attend_cpu(Tensor x, Tensor pool, Tensor? table=None, Tensor? prior=None) -> Tensor", attend, "CPU")
define("implicit" + SCHEMA, lambda x, prior: x.abs(), "CompositeImplicitAutograd")
define("store(Tensor x, Tensor(a!) pool, Tensor prior) -> Tensor", store)
define("present(Tensor x, Tensor? prior=None) -> Tensor", present)
define("in_part(Tensor x, Tensor? a=None, Tensor? b=None) -> Tensor", present_in_part)
define("scratch" + SCHEMA, scratch)
define("keyword(Tensor x, *, Tensor prior, int scale=2) -> Tensor", lambda x, *, prior, scale=2: x * scale)
define("priors(Tensor x, Tensor[] priors) -> Tensor", lambda x, priors: x + priors[0])
define("outer(Tensor x, Tensor prior, Tensor other) -> Tensor",
       lambda x, prior, other: torch.ops.inferlib.second(x, other, prior))  # fmt: skip
define("second(Tensor x, Tensor other, Tensor prior) -> Tensor", lambda x, other, prior: x + other)
define("dense(Tensor x, Tensor a, Tensor b) -> Tensor",
       lambda x, a, b: x + 1 if a.is_contiguous() and b.is_contiguous() else x + 2)  # fmt: skip
define("many(Tensor x, Tensor? a, Tensor? b, Tensor? c, Tensor? d, Tensor? e) -> Tensor", lambda x, *rest: x + 1)
define("by_shape" + SCHEMA, lambda x, prior: x + prior.stride(1))

# Nothing is sure of these.
define("counted" + SCHEMA, counted)
define("stateful" + SCHEMA, stateful)
define("constant" + SCHEMA, lambda x, prior: x + STATE)
define("branches" + SCHEMA, branches)
define("item" + SCHEMA, lambda x, prior: x + prior.flatten()[0].item())
define("listed" + SCHEMA, lambda x, prior: x + sum(prior.flatten()[:2].tolist()))
define("numbers" + SCHEMA, lambda x, prior: torch.from_numpy(x.numpy() + 1))
define("pointer" + SCHEMA, lambda x, prior: x + prior.data_ptr() % 2)
define("random" + SCHEMA, lambda x, prior: x + torch.rand_like(x))
define("random_unused" + SCHEMA, lambda x, prior: (torch.rand(2), x + 1)[1])
define("asserts" + SCHEMA, lambda x, prior: (torch._assert_async((prior > -9).all()), x + 1)[1])
define("returned" + SCHEMA, lambda x, prior: prior.view(-1).view(prior.shape))
define("quiet_store" + SCHEMA, lambda x, prior: x.add_(1).clone())
define("calls_unknown" + SCHEMA, lambda x, prior: torch.ops.inferlib.no_implementation(x, prior))
define("recursive" + SCHEMA, lambda x, prior: torch.ops.inferlib.recursive(x, prior))
define("fails" + SCHEMA, lambda x, prior: x.no_such_method())
LIBRARY.define("no_implementation" + SCHEMA)
torch.library.register_fake("inferlib::no_implementation", lambda x, prior: torch.empty_like(x), lib=LIBRARY)
LIBRARY.define("decomposed" + SCHEMA)
LIBRARY.define("disagree" + SCHEMA)
torch.library.register_fake("inferlib::decomposed", lambda x, prior: torch.empty_like(x), lib=LIBRARY)
torch.library.impl(LIBRARY, "disagree", "CompositeExplicitAutograd")(lambda x, prior: x + 1)
torch.library.register_fake("inferlib::disagree", lambda x, prior: torch.empty_like(x), lib=LIBRARY)
UNSURE = (
    "counted stateful constant branches item listed numbers pointer random random_unused asserts returned "
    "calls_unknown recursive fails no_implementation"
).split()


@pytest.fixture(scope="module", autouse=True)
def decompositions() -> Iterator[None]:
    ops = torch.ops.inferlib
    register_decomposition(ops.decomposed.default)(lambda x, prior: x * 2)
    register_decomposition(ops.disagree.default)(lambda x, prior: x + prior)
    yield
    for op in (ops.decomposed, ops.disagree):
        del decomposition_table[op.default]


def call_of(name: str, *args: Any, **kwargs: Any) -> Call:
    """The call of an operator on inputs of the given shapes; lists are shapes, all else is a constant."""
    graph, mode = Graph(), FakeTensorMode()

    def given(value: Any) -> Any:
        if isinstance(value, tuple):
            return [given(item) for item in value]
        if not isinstance(value, list):
            return value
        node = graph.placeholder("x")
        with mode:
            node.meta["val"] = torch.empty(value[1:], dtype=value[0])
        return node

    named = {key: given(value) for key, value in kwargs.items()}
    call = resolve(graph.call_function(getattr(torch.ops.inferlib, name).default, tuple(map(given, args)), named))
    assert call is not None
    return call


F32 = torch.float32
X, POOL, TABLE = [F32, 3, 2, 16, 8], [F32, 10, 4, 2, 8], [torch.int32, 3, 4]
EMPTY = EmptyTensor((3, 2, 16, 8))

SURE: list[tuple[Call, set[str], set[str], dict[str, Any]]] = [
    (call_of("attend", X, POOL, TABLE, X), {"x", "pool", "table"}, set(), {"prior": None}),
    (call_of("attend", X, POOL, None, X), {"x", "prior"}, set(), {"pool": EmptyTensor((10, 4, 2, 8))}),
    (call_of("attend", X, POOL, table=TABLE), {"x", "pool", "table"}, set(), {}),
    (call_of("attend_cpu", X, POOL, TABLE, X), {"x", "pool", "table"}, set(), {"prior": None}),
    (call_of("implicit", X, X), {"x"}, set(), {"prior": EMPTY}),
    (call_of("store", X, POOL, X), {"x", "pool"}, {"pool"}, {"prior": EMPTY}),
    (call_of("present", X, X), {"x"}, set(), {"prior": EMPTY}),
    (call_of("in_part", X, X, X), {"x"}, set(), {"a": EMPTY, "b": EMPTY}),
    (call_of("in_part", X, X), {"x"}, set(), {"a": EMPTY}),
    (call_of("scratch", X, X), {"x"}, set(), {"prior": EMPTY}),
    (call_of("keyword", X, prior=X), {"x"}, set(), {"prior": EMPTY}),
    (call_of("priors", X, (X, X)), {"x", "priors"}, set(), {}),
    (call_of("outer", X, X, X), {"x", "other"}, set(), {"prior": EMPTY}),
    (call_of("decomposed", X, X), {"x"}, set(), {"prior": EMPTY}),
    (call_of("disagree", X, X), {"x", "prior"}, set(), {}),
    (call_of("quiet_store", X, X), {"x"}, {"x"}, {"prior": EMPTY}),
]


@pytest.mark.parametrize(
    ("call", "reads", "writes", "stand_in"), SURE, ids=lambda v: v.op if isinstance(v, Call) else ""
)
def test_inferred(call: Call, reads: set[str], writes: set[str], stand_in: dict[str, Any]) -> None:
    table = InferringContracts()
    contract = table.find(call)
    assert contract is not None and contract.inferred
    assert contract.operands_read(call) == reads
    assert contract.operands_written(call) == writes
    assert contract.stand_in == stand_in
    assert table.find(call) is contract


@pytest.mark.parametrize("name", UNSURE)
def test_nothing_is_inferred_where_it_is_not_sure(name: str) -> None:
    assert infer_contract(call_of(name, X, X), InferringContracts()) is None


def test_an_operand_whose_strides_are_used_keeps_a_tensor_of_them() -> None:
    call = call_of("by_shape", X, X)
    permuted = call.node.args[1]
    assert isinstance(permuted, torch.fx.Node)
    permuted.meta["val"] = permuted.meta["val"].permute(0, 2, 1, 3)
    contract = infer_contract(call)
    assert contract is not None and contract.stand_in == {} and contract.operands_read(call) == {"x", "prior"}


def test_operands_that_are_only_told_apart_together_keep_their_tensors() -> None:
    call = call_of("dense", X, X, X)
    for operand in call.node.args[1:]:
        assert isinstance(operand, torch.fx.Node)
        operand.meta["val"] = operand.meta["val"].permute(0, 2, 1, 3)
    contract = infer_contract(call)
    assert contract is not None and contract.stand_in == {} and contract.operands_read(call) == {"x", "a", "b"}


def test_of_many_unread_operands_each_keeps_a_tensor_of_its_layout() -> None:
    contract = infer_contract(call_of("many", X, X, X, X, X, X))
    assert contract is not None and contract.stand_in == dict.fromkeys("abcde", EMPTY)


def test_symbolic_shapes_and_torchs_own_operators_are_left_alone() -> None:
    call = call_of("implicit", X, X)
    mode = FakeTensorMode(shape_env=ShapeEnv())
    operand = call.node.args[1]
    assert isinstance(operand, torch.fx.Node)
    operand.meta["val"] = mode.from_tensor(torch.zeros(5, 2), static_shapes=False)
    assert infer_contract(call) is None
    graph = Graph()
    assert infer_contract(resolve(graph.call_function(aten.relu.default, (graph.placeholder("x"),)))) is None  # type: ignore[arg-type]


def test_a_call_within_uses_what_is_declared_of_the_operator() -> None:
    call = call_of("calls_unknown", X, X)
    declared = InferringContracts(
        by_op={"inferlib::no_implementation": Contract("inferlib::no_implementation", {"x"}, (), {"prior": EMPTY})}
    )
    contract = declared.find(call)
    assert contract is not None and contract.operands_read(call) == {"x"}


def graph_with(name: str, *, table: bool = True) -> GraphModule:
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    blocks = build.input("block_table", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    prior = build.site(pool, blocks)
    target = getattr(torch.ops.inferlib, name).default
    args = (x, pool, blocks if table else None, prior) if name.startswith("attend") else (x, prior)
    return build.module(build.call(target, *args))


INFER: dict[str, Any] = {"policy": "liveness", "infer_contracts": True}


def check(module: GraphModule) -> Any:
    """What check_prune checks, with the contracts that the pass inferred."""
    result = PrunePrefixCache(**INFER)(module)
    PassPipeline([PrunePrefixCache(**INFER)])(module)
    assert not PrunePrefixCache(**INFER)(result.graph_module).modified
    assert_same_behaviour(module, result.graph_module, decode_inputs())
    return result


@pytest.mark.parametrize("name", ["attend", "attend_cpu", "implicit", "present", "scratch", "decomposed"])
def test_a_site_that_an_inferred_contract_frees_goes(name: str) -> None:
    module = graph_with(name)
    assert not check_prune(module, None, policy="liveness").modified
    if name == "decomposed":
        torch.library.impl(LIBRARY, "decomposed", "CUDA")(lambda x, prior: x * 2)
        result = PrunePrefixCache(**INFER)(module)
    else:
        result = check(module)
    report = result.report
    assert report.summary["gathers_after"] == 0
    reads = "x, pool, table" if name.startswith("attend") else "x"
    assert report.notes == (f"inferred contract of inferlib::{name}: reads {reads}",)
    assert f"inferred contract of inferlib::{name}" in report.sites[0].reason


@pytest.mark.parametrize("name", ["branches", "item", "counted", "stateful", "returned", "disagree"])
def test_a_site_of_which_nothing_is_sure_stays(name: str) -> None:
    assert not PrunePrefixCache(**INFER)(graph_with(name)).modified


def test_a_site_that_is_read_under_these_arguments_stays() -> None:
    result = PrunePrefixCache(**INFER)(graph_with("attend", table=False))
    assert not result.modified
    assert result.report.notes == ("inferred contract of inferlib::attend: reads x, prior",)


def test_a_declared_contract_wins() -> None:
    with register_contract("inferlib::attend", reads={"x", "pool", "table", "prior"}):
        result = PrunePrefixCache(**INFER)(graph_with("attend"))
    assert not result.modified and result.report.notes == ()


def test_without_the_option_nothing_is_inferred_and_the_verifier_does_not_believe_it() -> None:
    module = graph_with("attend")
    result = PrunePrefixCache(**INFER)(module)
    with pytest.raises(PruneVerificationError, match="argument 3 became None"):
        verify_prune(module, result.graph_module, result.report)
    verify_prune(module, result.graph_module, result.report, contracts=InferringContracts.over(DEFAULT_CONTRACTS))


@pytest.mark.usefixtures("own_contracts")
def test_the_option_has_a_text_form() -> None:
    step = make_pass("prune-prefix-cache{infer_contracts=true}")
    assert step == PrunePrefixCache(infer_contracts=True)
    assert step.uuid() != PrunePrefixCache().uuid()  # type: ignore[attr-defined]


def test_calls_alike_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import passes.inference

    traced: list[str] = []
    trace = passes.inference.trace
    monkeypatch.setattr(passes.inference, "trace", lambda *args: (traced.append(args[1].node.name), trace(*args))[1])
    table = InferringContracts()
    for _ in range(10):
        table.find(call_of("attend", X, POOL, TABLE, X))
    once = len(traced)
    assert 0 < once <= 4
    table.find(call_of("attend", X, POOL, None, X))
    assert len(traced) > once


def test_inferred_contracts_agree_with_the_declared_ones_of_the_decoders_operator() -> None:
    """Declared may read more, never less; and what was inferred holds against the operator itself."""
    declared = DEFAULT_CONTRACTS.by_op["deadkv::attention_block_tkg"]
    for overload, arguments in list(attention_samples())[::13]:
        operator = getattr(torch.ops.deadkv.attention_block_tkg, overload)
        call, _ = bound_call(operator, arguments)
        contract = infer_contract(call)
        if overload == "cache_update" and arguments["update_cache"]:
            assert contract is None  # it stores the tokens whose slot is not negative: that depends on elements
            continue
        assert contract is not None
        assert contract.operands_read(call) == declared.operands_read(call)
        assert contract.operands_written(call) == declared.operands_written(call)
        table = Contracts(by_op={contract.op: contract})
        check_contract(f"{contract.op}.{overload}", [Sample(arguments, overload)], contracts=table)


RUNNABLE: list[tuple[str, list[Any]]] = [
    ("attend", [torch.randn(2), torch.randn(4, 2), torch.tensor([1, 2]), torch.randn(2)]),
    ("attend", [torch.randn(2), torch.randn(4, 2), None, torch.randn(2)]),
    ("attend_cpu", [torch.randn(2), torch.randn(4, 2), torch.tensor([1, 2]), torch.randn(2)]),
    ("implicit", [torch.randn(2), torch.randn(2)]),
    ("store", [torch.randn(2, 2), torch.randn(3, 2), torch.randn(5)]),
    ("present", [torch.randn(2), torch.randn(2)]),
    ("in_part", [torch.randn(2), torch.randn(2), torch.randn(2)]),
    ("scratch", [torch.randn(1), torch.randn(3)]),
    ("priors", [torch.randn(2), [torch.randn(2), torch.randn(2)]]),
    ("outer", [torch.randn(2), torch.randn(2), torch.randn(2)]),
    ("quiet_store", [torch.randn(2), torch.randn(2)]),
    ("by_shape", [torch.randn(2), torch.randn(2, 2)]),
]


@pytest.mark.parametrize(("name", "arguments"), RUNNABLE)
def test_what_was_inferred_holds_against_the_operator(name: str, arguments: list[Any]) -> None:
    op = f"inferlib::{name}"
    overload = getattr(torch.ops.inferlib, name).default
    named = dict(zip((argument.name for argument in overload._schema.arguments), arguments, strict=False))
    contract = infer_contract(bound_call(overload, named)[0])
    assert contract is not None
    assert check_contract(op, [named], contracts=Contracts(by_op={op: contract})).samples == 1


def test_a_decoder_without_a_declared_contract_is_pruned_as_one_with_it() -> None:
    decoder = build_decoder("tiny", "opaque-past", batch=2, bucket=64)
    module = capture(decoder, decoder.example_inputs())
    declared = PassPipeline([PrunePrefixCache(policy="liveness")])(module)
    inferring = PrunePrefixCache(policy="liveness", contracts=Contracts(), infer_contracts=True)
    inferred = PassPipeline([inferring])(module)
    assert declared.reports[0].summary["gathers_after"] == 0
    assert text(document(inferred.graph_module)) == text(document(declared.graph_module))
    assert not PrunePrefixCache(policy="liveness", contracts=Contracts())(module).modified
