"""Benchmarks of routes and of predicted bytes: the C++ kernel, what is counted, and what the tables say of it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from passes import PrunePrefixCache
from tests.bench.benchmark import Skipped
from tests.bench.prediction.measure import measure as measure_prediction
from tests.bench.prediction.rows import GEOMETRIES, Geometry
from tests.bench.prediction.section import section as prediction_section
from tests.bench.routes import cuda, native
from tests.bench.routes.byte_counter import ByteCounter
from tests.bench.routes.points import POINTS, VARIANTS, Point
from tests.bench.routes.section import section
from tests.bench.routes.subject import step_inputs
from tests.bench.routes.timing import timed
from tests.bench.routes.torch_kernel import KERNEL, REPLACED, call_kernel
from tests.bench.routes.xla import compile_graph, entries
from tests.bench.routes.xla_kernel import kernel_call
from tracing.capture import capture
from tracing.decoder import Decoder, build_decoder, random_caches, random_weights
from tracing.decoder.attention_samples import attention_samples

KEY = re.compile(r"[\w.-]+(/[\w.-]+)*")


@pytest.fixture(scope="module", autouse=True)
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The kernel, compiled into a cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        try:
            native.library()
        except Skipped as reason:
            pytest.skip(str(reason))
        yield


def sample() -> dict[str, Any]:
    """A call with -1 in its block table; the operands that the op does not read are NaN."""
    wanted = {"rmsnorm_X_enabled": True, "rmsnorm_QK_pre_rope_enabled": False, "k_scale": None}
    calls = (call for overload, call in attention_samples() if overload == "default" and _is_block_mode(call))
    found = next(call for call in calls if all(call[name] == value for name, value in wanted.items()))
    absent = "bias_qkv rmsnorm_QK_pre_rope_W_Q rmsnorm_QK_pre_rope_W_K bias_out".split()
    unread = {name: torch.full_like(found[name], torch.nan) for name in ("k_prior", "v_prior")}
    return {**found, **dict.fromkeys(absent), **unread}


def _is_block_mode(call: dict[str, Any]) -> bool:
    return call["active_blocks_table"] is not None


def test_the_kernel_in_torch_computes_what_the_operator_does() -> None:
    call = sample()
    assert int(call["active_blocks_table"].min()) == -1
    torch.testing.assert_close(KERNEL(**call), REPLACED(**call), rtol=1e-5, atol=1e-5)


def test_the_kernel_in_xla_computes_what_the_operator_does() -> None:
    call = sample()
    tensors = {name: value.numpy() for name, value in call.items() if isinstance(value, Tensor)}
    constants = {name: value for name, value in call.items() if name not in tensors}
    with jax.enable_x64(False):
        found = jax.jit(lambda arrays: kernel_call({**constants, **arrays}))(tensors)
    for ours, theirs in zip(found, REPLACED(**call), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changed", [{"rmsnorm_X_enabled": False}, {"bias_out": torch.zeros(12)}])
def test_the_kernel_refuses_what_it_does_not_compute(changed: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=next(iter(changed))):
        KERNEL(**sample() | changed)


def test_without_a_compiler_or_a_gpu_rows_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Skipped, match=r"no C\+\+ compiler"):
        native.library.__wrapped__()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Skipped, match=r"torch\.cuda is not available"):
        cuda.require()


def tiny(variant: str, fill: int) -> tuple[Decoder, tuple[Tensor, ...], GraphModule]:
    decoder = build_decoder("tiny", variant, layers=1, batch=2, bucket=64, device="cpu")
    random_weights(decoder, 0)
    random_caches(decoder, 0)
    captured = capture(decoder, decoder.example_inputs(), aliases=decoder.aliases())
    return decoder, step_inputs(decoder, fill), captured


def test_a_step_in_torch_and_on_xla_is_that_of_the_decoder() -> None:
    decoder, inputs, before = tiny("opaque-past", fill=50)
    expected = [tensor.clone() for tensor in decoder(*inputs)]
    after = PrunePrefixCache()(before).graph_module
    for graph in (before, after):
        compiled, _ = compile_graph(graph, inputs)
        values = [{name: jax.numpy.array(t.numpy(force=True)) for name, t in part.items()} for part in entries(graph)]
        found = compiled(*values, [tensor.numpy() for tensor in inputs])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    call_kernel(after)
    torch.testing.assert_close(after(*inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("fill", "blocks"), [(25, 2), (100, 8)])
def test_inputs_name_each_cached_block_once_and_no_other(fill: int, blocks: int) -> None:
    decoder = build_decoder("tiny", batch=2, bucket=64)
    named = dict(zip(decoder.input_names, step_inputs(decoder, fill), strict=True))
    table = named["active_block_table"]
    assert len(table[:, :blocks].unique()) == 2 * blocks
    assert not table[:, blocks:].any()
    assert named["attention_mask"].sum(1).tolist() == [8 * blocks - 1] * 2
    assert named["slot_mapping"].flatten().tolist() == (table[:, blocks - 1] * 8 + 7).tolist()


def test_counted_are_operands_and_results_but_no_views() -> None:
    pool, index = torch.zeros(9, 4), torch.tensor([1, 2])
    with ByteCounter() as counter:
        rows = pool.index_select(0, index)
        total = rows.t() + torch.zeros(1).expand(4, 2)
    gathered, zeros, added = 2 * 4 * 4 * 2 + 2 * 8, 4, 4 * 8 + 4 + 4 * 8
    assert counter.bytes == gathered + zeros + added
    assert counter.peak_bytes == 4 * 8 + 4 + 4 * 8
    assert total.shape == (4, 2)


def test_an_opaque_operator_counts_nothing() -> None:
    with ByteCounter([torch.ops.aten.mul.Tensor]) as counter:
        torch.ones(4) * 2
    assert counter.bytes == 16


@pytest.mark.parametrize("variant", ["regional", "scan"])
def test_what_a_nested_graph_does_is_counted(variant: str) -> None:
    """By as much as the same layers one after another, but for what stacks the results of a scan."""
    counted = {}
    for name in ("base", variant):
        _, inputs, graph = tiny(name, fill=100)
        with torch.no_grad(), ByteCounter() as counter:
            graph(*inputs)
        counted[name] = counter.bytes
    assert counted[variant] >= 0.95 * counted["base"]


def test_steps_take_turns() -> None:
    order: list[str] = []
    found = timed({name: partial(order.append, name) for name in ("before", "after")})
    assert order[-4:] == ["before", "after"] * 2
    assert found["before"]["runs"] == found["after"]["runs"] > 0
    assert found["before"]["min_ms"] <= found["before"]["median_ms"]


def test_every_case_is_measured_on_every_cpu_route() -> None:
    assert all(KEY.fullmatch(key) for key in (*POINTS, *GEOMETRIES))
    for route in ("eager", "inductor", "xla"):
        assert [point.case for point in POINTS.values() if point.route == route and point.is_base] == list(VARIANTS)


def row(before_ms: float, after_ms: float, **saved: int) -> dict[str, Any]:
    """A row whose graph before has so much more of each figure than the 1,000,000 of the graph after."""
    after = {"median_ms": after_ms, "min_ms": after_ms, **dict.fromkeys(saved, 1_000_000)}
    before = {
        "median_ms": before_ms,
        "min_ms": before_ms - 1,
        **{name: 1_000_000 + more for name, more in saved.items()},
    }
    return {"predicted_bytes": 5_000_000, "same_as_edited": True, "before": before, "after": after, "edited": after}


def test_tables_show_what_pruning_saves_and_the_text_where_it_saves_nothing() -> None:
    opaque, unused = Point("xla", "opaque-operand"), Point("xla", "zero-user")
    rows = {
        unused: row(10.0, 10.0, bytes=0, temp_bytes=0, compile_ms=0),
        opaque: row(15.0, 10.0, bytes=5_100_000, temp_bytes=2_000_000, compile_ms=1_000),
        replace(opaque, layers=16): row(20.0, 10.0, bytes=40_000_000, temp_bytes=0, compile_ms=0),
        Point("inductor", "scan"): row(12.0, 10.0, kernels=1, compile_ms=0),
    }
    found = section(rows)
    _, xla, counted, sizes = found.tables
    point = ("opaque-operand", "2", "2,048", "4", "100 %")
    assert xla.rows[1] == (*point, "15.0 (14.0)", "10.0 (10.0)", "1.50", "1.00")
    assert counted.rows[1] == ("XLA:CPU", *point, "5.0", "5.1", "6.1 -> 1.0", "3.0 -> 1.0")
    assert len(counted.rows) == 3
    assert [line[:2] for line in sizes.rows] == [
        ("XLA:CPU", "zero-user"), ("XLA:CPU", "opaque-operand"), ("Inductor, CPU", "scan")
    ]  # fmt: skip
    assert "- XLA:CPU: `zero-user`\n" in f"{found.text}\n"
    assert "node for node, in 4 of 4 rows" in found.text
    assert "not run, for want of a GPU" in found.text
    assert [plot.name for plot in found.plots] == ["routes-by-case"]


def test_a_section_of_no_rows_has_no_tables() -> None:
    assert section({}).tables == section({}).plots == ()


def test_a_prediction_is_what_xla_counts() -> None:
    """But for the reserved blocks, and the block table that XLA counts too."""
    geometry = Geometry("tiny", "opaque-past", "float32", 1024, 2)
    found = measure_prediction(geometry)
    counted = found["counted_before"] - found["counted_after"]
    assert 0 <= counted - found["reserved"] - found["predicted"] < 0.02 * found["predicted"]
    (line,) = prediction_section({geometry: found}).tables[0].rows
    assert line[-1] == "yes"


@pytest.mark.parametrize(("after", "said"), [(1000, "removed by XLA itself"), (500, "no"), (902, "yes"), (896, "yes")])
def test_the_verdict_of_a_prediction(after: int, said: str) -> None:
    found = {"predicted": 100, "counted_before": 1000, "counted_after": after, "reserved": 0}
    (line,) = prediction_section({GEOMETRIES[next(iter(GEOMETRIES))]: found}).tables[0].rows
    assert line[-1] == said
