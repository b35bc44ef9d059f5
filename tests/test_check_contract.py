"""Contracts held against the operators themselves: true ones pass, each kind of lie is caught and named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from passes import DeadkvError, register_contract
from passes.contracts import Contract, EmptyTensor
from passes.registration import DEFAULT_CONTRACTS
from tracing.cli import main
from tracing.testing import ContractViolation, Sample, check_contract, examine_contract

LIBRARY = torch.library.Library("checklib", "DEF")


def define(schema: str, body: Callable[..., Any]) -> None:
    LIBRARY.define(schema)
    torch.library.impl(LIBRARY, schema.split("(")[0], "CPU")(body)


def attend(x: Tensor, pool: Tensor, table: Tensor | None = None, prior: Tensor | None = None) -> Tensor:
    if table is None:
        assert prior is not None
        return x + prior
    return x + pool[table.long()].sum()


def neutral(x: Tensor, prior: Tensor) -> Tensor:
    return x + prior.flatten()[0] * 0


def positive_infinity(x: Tensor, prior: Tensor) -> Tensor:
    return torch.where(prior.isinf().any(), x + 1, x)


def out_of_range(x: Tensor, ids: Tensor) -> Tensor:
    return x[ids.clamp(max=1).long()].sum() + x * 0


def clamped(x: Tensor, ids: Tensor) -> Tensor:
    return torch.where((ids > 10**6).any(), x + 1, x)


def store(x: Tensor, pool: Tensor, prior: Tensor) -> Tensor:
    pool[0] = prior[0]
    return x + 1


def quiet_store(x: Tensor, pool: Tensor) -> Tensor:
    pool[0] += 1
    return x + 1


def average(x: Tensor, prior: Tensor) -> Tensor:
    return x / prior.shape[0]


def second_output(x: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    return x + 1, prior + 1


def masked(x: Tensor, keep: Tensor) -> Tensor:
    return x.where(keep, 0)


define("attend(Tensor x, Tensor pool, Tensor? table=None, Tensor? prior=None) -> Tensor", attend)
define("neutral(Tensor x, Tensor prior) -> Tensor", neutral)
define("positive_infinity(Tensor x, Tensor prior) -> Tensor", positive_infinity)
define("out_of_range(Tensor x, Tensor ids) -> Tensor", out_of_range)
define("clamped(Tensor x, Tensor ids) -> Tensor", clamped)
define("store(Tensor x, Tensor(a!) pool, Tensor prior) -> Tensor", store)
define("quiet_store(Tensor x, Tensor pool) -> Tensor", quiet_store)
define("average(Tensor x, Tensor prior) -> Tensor", average)
define("second_output(Tensor x, Tensor prior) -> (Tensor, Tensor)", second_output)
define("masked(Tensor x, Tensor keep) -> Tensor", masked)
define("ignore(Tensor x, Tensor prior, Tensor? other=None) -> Tensor", lambda x, prior, other=None: x + 1)
define("ignore_list(Tensor x, Tensor[] priors) -> Tensor", lambda x, priors: x + 1)
define("read_list(Tensor x, Tensor[] priors) -> Tensor", lambda x, priors: x + priors[1])
define("fickle(Tensor x) -> Tensor", lambda x: x + next(COUNTER))
define("noise(Tensor x, Tensor prior) -> Tensor", lambda x, prior: x + torch.rand(2))
COUNTER = iter(range(1000))

X, POOL, PRIOR = torch.tensor([1.0, 2.0]), torch.arange(8.0).reshape(4, 2), torch.tensor([3.0, 4.0])
IDS, KEEP = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([True, False])
BLOCK = {"x": X, "pool": POOL, "table": IDS, "prior": PRIOR}
FLAT = {"x": X, "pool": POOL, "prior": PRIOR}


def attend_reads(bound: Mapping[str, Any]) -> set[str]:
    return {"x", "prior"} if bound["table"] is None else {"x", "pool", "table"}


@pytest.fixture(autouse=True)
def no_contract_is_left() -> Iterator[None]:
    before = dict(DEFAULT_CONTRACTS.by_op)
    yield
    assert before == DEFAULT_CONTRACTS.by_op


TRUE: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("attend", {"reads": attend_reads}, [BLOCK, FLAT]),
    ("attend", {"reads": attend_reads, "stand_in": {"prior": "x", "pool": EmptyTensor((0, 2))}}, [BLOCK, FLAT]),
    ("ignore", {"reads": {"x"}, "stand_in": {"prior": EmptyTensor((0,))}}, [(X, PRIOR, PRIOR)]),
    ("ignore", {"reads": {"x"}, "stand_in": {"prior": "x"}}, [(X, KEEP.float()), (X, PRIOR, X)]),
    ("ignore_list", {"reads": {"x"}}, [(X, [PRIOR, PRIOR])]),
    ("store", {"reads": {"x", "prior"}}, [(X, POOL, PRIOR)]),
    ("store", {"reads": {"x", "prior"}, "writes": {"pool"}}, [(X, POOL, PRIOR)]),
    ("quiet_store", {"reads": {"x"}, "writes": {"pool"}}, [(X, POOL)]),
    ("average", {"reads": {"x"}}, [(X, PRIOR)]),
    ("noise", {"reads": {"x"}}, [(X, PRIOR)]),
]


@pytest.mark.parametrize(("op", "contract", "samples"), TRUE)
def test_a_true_contract_holds(op: str, contract: dict[str, Any], samples: list[Any]) -> None:
    with register_contract(f"checklib::{op}", **contract):
        assert check_contract(f"checklib::{op}", samples).ok


LIES: list[tuple[str, dict[str, Any], Sequence[Any], str]] = [
    ("attend", {"reads": {"x", "pool", "table"}}, FLAT, "prior is called unread, but with NaN in it output 0 changes"),
    ("attend", {"reads": {"x", "prior"}}, BLOCK, "pool is called unread, but with NaN in it output 0 changes"),
    ("neutral", {"reads": {"x"}}, (X, PRIOR), "prior is called unread, but with NaN in it output 0 changes"),
    ("positive_infinity", {"reads": {"x"}}, (X, PRIOR), "prior is called unread, but with Inf in it output 0"),
    ("clamped", {"reads": {"x"}}, (X, IDS), "ids is called unread, but with huge integers in it output 0"),
    ("out_of_range", {"reads": {"x"}}, (X, IDS), "ids is called unread, but with huge integers in it output 0"),
    (
        "out_of_range",
        {"reads": {"x"}},
        (X, IDS + 1),
        "ids is called unread, but with hugely negative integers in it it",
    ),
    ("masked", {"reads": {"x"}}, (X, KEEP), "keep is called unread, but with inverted booleans in it output 0"),
    ("second_output", {"reads": {"x"}}, (X, PRIOR), "prior is called unread, but with NaN in it output 1 changes"),
    ("store", {"reads": {"x"}}, (X, POOL, PRIOR), "prior is called unread, but with NaN in it operand pool changes"),
    ("read_list", {"reads": {"x"}}, (X, [PRIOR, PRIOR]), "priors is called unread, but with NaN in it output 0"),
    ("quiet_store", {"reads": {"x", "pool"}}, (X, POOL), "pool is not listed as written, but the operator writes it"),
    ("store", {"reads": {"x", "prior"}, "writes": ()}, (X, POOL, PRIOR), "pool is not listed as written, but"),
    (
        "average",
        {"reads": {"x"}, "stand_in": {"prior": EmptyTensor((5,))}},
        (X, PRIOR),
        r"with an empty tensor \[5\] in place of prior output 0 changes",
    ),
    (
        "average",
        {"reads": {"x"}, "stand_in": {"prior": None}},
        (X, PRIOR),
        "with None in place of prior it raises AttributeError: 'NoneType'",
    ),
    (
        "average",
        {"reads": {"x"}, "stand_in": {"prior": EmptyTensor(())}},
        (X, PRIOR),
        r"with an empty tensor \[\] in place of prior it raises IndexError",
    ),
]


@pytest.mark.parametrize(("op", "contract", "sample", "message"), LIES)
def test_a_lie_is_caught(op: str, contract: dict[str, Any], sample: Any, message: str) -> None:
    with (
        register_contract(f"checklib::{op}", **contract),
        pytest.raises(ContractViolation, match=f"^contract of checklib::{op}: sample 0: {message}"),
    ):
        check_contract(f"checklib::{op}", [sample])


def test_a_lie_under_some_static_arguments_needs_a_sample_with_them() -> None:
    with register_contract("checklib::attend", reads={"x", "pool", "table"}):
        assert check_contract("checklib::attend", [BLOCK]).unread == {"prior": 1}
        with pytest.raises(ContractViolation, match=r"sample 1: prior"):
            check_contract("checklib::attend", [BLOCK, FLAT])


def test_a_stand_in_of_another_dtype_or_rank_is_refused() -> None:
    for other in (PRIOR.double(), PRIOR.reshape(1, 2)):
        with (
            register_contract("checklib::ignore", reads={"x"}, stand_in={"prior": "x"}),
            pytest.raises(DeadkvError, match=r"the stand-in 'x' of prior has dtype torch.float32 and rank 1, prior of"),
        ):
            check_contract("checklib::ignore", [(X, other)])


def test_samples_are_left_as_they_are() -> None:
    pool = POOL.clone()
    with register_contract("checklib::store", reads={"x", "prior"}):
        check_contract("checklib::store", [(X, pool, PRIOR)])
    assert torch.equal(pool, POOL)


@pytest.mark.parametrize(
    ("op", "samples", "message"),
    [
        ("checklib::nothing", [(X,)], "unknown operator 'checklib::nothing'"),
        ("nonsense", [(X,)], "unknown operator 'nonsense'"),
        ("checklib::average", [(X, PRIOR)], "checklib::average has no contract"),
        ("checklib::ignore", None, "there is no sample"),
        ("checklib::ignore", [], "there is no sample"),
        ("checklib::ignore", [(X, PRIOR, X, X)], "a sample has 4 arguments, at most 3"),
        ("checklib::ignore", [{"x": X, "y": X}], "a sample names unknown argument 'y'"),
        ("checklib::ignore", [{"x": X}], "a sample lacks the argument 'prior'"),
        ("checklib::ignore", [Sample({"x": X, "prior": X}, "out")], "no overload 'out'"),
        ("checklib::fickle", [(X,)], "output 0 differs between two runs"),
        ("checklib::attend", [{"x": X, "pool": POOL}], "sample 0 of checklib::attend fails: AssertionError"),
    ],
)
def test_what_cannot_be_checked_is_one_clear_error(op: str, samples: Any, message: str) -> None:
    with (
        register_contract("checklib::ignore", reads={"x"}),
        register_contract("checklib::fickle", reads={"x"}),
        register_contract("checklib::attend", reads={"x"}),
        pytest.raises(DeadkvError, match=message),
    ):
        check_contract(op, samples)


def test_the_contract_of_the_decoders_own_operator_holds() -> None:
    check = check_contract("deadkv::attention_block_tkg")
    assert {"k_prior", "v_prior", "kv_cache_update_idx", "rmsnorm_X_gamma"} <= check.unread.keys()


def test_a_lie_about_the_decoders_own_operator_is_caught() -> None:
    op = "deadkv::attention_block_tkg"
    known = DEFAULT_CONTRACTS.by_op[op]
    assert callable(known.reads)
    reads = known.reads
    with register_contract(op, reads=lambda bound: set(reads(bound)) - {"v_prior"}, writes=known.writes):
        flaws = examine_contract(op).flaws
    assert [(flaw.operand, flaw.kind) for flaw in flaws][:1] == [("v_prior", "read")]
    with register_contract(op, reads=reads, writes=()):
        flaws = examine_contract(f"{op}.cache_update").flaws
    assert [(flaw.operand, flaw.kind) for flaw in flaws] == [("K_cache", "written"), ("V_cache", "written")]


@pytest.mark.parametrize("what", ["reads", "writes"])
def test_a_contract_that_contradicts_itself_is_refused(what: str) -> None:
    given: dict[str, Any] = {"reads": {"x"}, what: {"prior"}}
    with pytest.raises(DeadkvError, match=f"gives a stand-in for 'prior', which it always {what}"):
        Contract("checklib::ignore", stand_in={"prior": None}, **given)


MODULE = """
import torch
from passes import register_contract

LIBRARY = torch.library.Library("{name}", "DEF")
LIBRARY.define("attend(Tensor x, Tensor prior) -> Tensor")
torch.library.impl(LIBRARY, "attend", "CPU")(lambda x, prior: x + {read})
register_contract("{name}::attend", reads={{"x"}})

def samples():
    return [(torch.ones(2), torch.ones(2))]

def broken():
    raise ValueError("no samples today")
"""


@pytest.fixture
def deadkv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    monkeypatch.chdir(tmp_path)
    contracts = dict(DEFAULT_CONTRACTS.by_op)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["deadkv", "check-contract", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0)

    yield run
    for path in tmp_path.glob("*_lib.py"):
        if (module := sys.modules.pop(path.stem, None)) is not None:
            module.LIBRARY._destroy()
    DEFAULT_CONTRACTS.by_op.clear()
    DEFAULT_CONTRACTS.by_op.update(contracts)


def write_module(name: str, read: str) -> None:
    Path(f"{name}.py").write_text(MODULE.format(name=name, read=read), encoding="utf-8")


def test_command_line_true(deadkv: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_module("honest_lib", "1")
    assert deadkv("honest_lib::attend", "--load", "honest_lib", "--inputs", "honest_lib.py:samples") == 0
    printed = capsys.readouterr().out
    assert printed == (
        "the contract of honest_lib::attend holds on 1 samples\noperands poisoned, in how many samples: prior (1)\n"
    )


def test_command_line_wrong(deadkv: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_module("lying_lib", "prior")
    calls = [{"x": {"shape": [2]}, "prior": {"shape": [2], "dtype": "bfloat16"}}]
    Path("calls.json").write_text(json.dumps(calls), encoding="utf-8")
    assert deadkv("lying_lib::attend", "--load", "lying_lib.py", "--inputs", "calls.json", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and found["samples"] == 1 and found["unread"] == {"prior": 1}
    assert found["flaws"] == [
        {
            "sample": 0,
            "operand": "prior",
            "kind": "read",
            "given": "NaN",
            "difference": "output 0 changes",
            "message": "sample 0: prior is called unread, but with NaN in it output 0 changes",
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere::attend",), "unknown operator 'nowhere::attend'"),
        (("nowhere::attend", "--load", "no_such_module"), "cannot load no_such_module: ModuleNotFoundError"),
        (("nowhere::attend", "--load", "no_such_file.py"), "cannot load no_such_file.py: there is no such file"),
        (("any_lib::attend", "--load", "any_lib"), "there is no sample to check it on"),
        (
            ("any_lib::attend", "--load", "any_lib", "--inputs", "missing.json"),
            "cannot read missing.json: No such file",
        ),
        (("any_lib::attend", "--load", "any_lib", "--inputs", "any_lib.py"), "give FILE.json or FILE.py:function"),
        (("any_lib::attend", "--load", "any_lib", "--inputs", "any_lib.py:nope"), "has no function 'nope'"),
        (("any_lib::attend", "--load", "any_lib", "--inputs", "any_lib.py:broken"), "ValueError: no samples today"),
    ],
)
def test_command_line_errors(
    deadkv: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    write_module("any_lib", "1")
    assert deadkv(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("deadkv: ") and message in captured.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is no JSON"),
        ("{}", "must be a list of calls"),
        ('[{"x": {"shape": "2"}}]', "calls.json: call 0, x: the shape must be a list of sizes, not '2'"),
        ('[{"x": {"shape": [2], "dtype": "float7"}}]', "call 0, x: 'float7' is no torch dtype"),
        ('[{"x": {"shape": [2], "size": 3}}]', "call 0, x: unknown key 'size'"),
        ('[{"x": {"shape": [2], "dtype": "int32", "low": 4, "high": 4}}]', "low and high must be integers"),
        ('[{"x": {"shape": [2]}}]', "a sample lacks the argument 'prior'"),
        ('[{"x": {"shape": [2]}, "prior": {"shape": [2]}, "overload": "out"}]', "no overload 'out'"),
    ],
)
def test_bad_sample_files(
    deadkv: Callable[..., int], capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    write_module("file_lib", "1")
    Path("calls.json").write_text(text, encoding="utf-8")
    assert deadkv("file_lib::attend", "--load", "file_lib", "--inputs", "calls.json") == 2
    assert message in capsys.readouterr().err


def test_nothing_is_run_but_what_the_user_names(deadkv: Callable[..., int]) -> None:
    Path("honest.json").write_text("[{\"x\": \"__import__('pathlib').Path('ran').touch()\"}]", encoding="utf-8")
    Path("sitecustomize.py").write_text("import pathlib; pathlib.Path('ran').touch()", encoding="utf-8")
    assert deadkv("deadkv::attention_block_tkg", "--inputs", "honest.json") == 2
    assert not Path("ran").exists()
