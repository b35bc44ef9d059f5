"""The torch-xla backend: what stock torch_xla lowers a graph to, in processes of its own, and that XLA runs it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from passes import DeadkvError, PrunePrefixCache
from tests.support.releases import needs_torch_xla
from tests.test_hlo_proto import run_binary
from tracing import capture, compile_tkg
from tracing.backends import BackendRequest, get_backend
from tracing.backends.hlo.conversion import to_numpy
from tracing.backends.hlo.proto import NEURON_KERNEL, alias_pairs, parse_module
from tracing.backends.xla import TorchXlaBackend
from tracing.backends.xla.job import Facts, Held, Spec
from tracing.backends.xla.module import all_aliases
from tracing.decoder import build_decoder, random_caches, random_inputs, random_weights

Compiled = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The output folder of `deadkv compile` on a decoder without weights."""

    def compile_variant(variant: str, target: str) -> Path:
        decoder = build_decoder("tiny", variant, batch=2, bucket=64)
        out = tmp_path_factory.mktemp(variant) / "out"
        compile_tkg(
            decoder,
            decoder.example_inputs(),
            aliases=decoder.aliases(),
            backend="torch-xla",
            target=target,
            out_dir=out,
        )
        return out

    return compile_variant


def opcodes(out: Path, role: str) -> Counter[str]:
    module = parse_module((out / f"{role}.hlo.pb").read_bytes())
    return Counter(i.opcode for computation in module.computations for i in computation.instructions)


def parameters(out: Path, role: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "parameters.json").read_text())[role]
    return found


@needs_torch_xla
def test_a_chain_without_users_is_in_neither_hlo(compiled: Compiled) -> None:
    out = compiled("base", "inf2")
    before, after = ((out / f"{role}.hlo.pb").read_bytes() for role in ("before", "after"))
    assert before == after
    assert parameters(out, "before") == parameters(out, "after")  # with the hash of what LoweringContext wrote
    assert len((out / "before.graph.txt").read_text()) > len((out / "after.graph.txt").read_text())
    assert "neuronx-cc compile after.hlo.pb" in (out / "command.txt").read_text()


@needs_torch_xla
def test_the_prefix_that_an_opaque_kernel_ignores_is_in_the_hlo_before(compiled: Compiled) -> None:
    out = compiled("opaque-past", "trn2")
    before, after = opcodes(out, "before"), opcodes(out, "after")
    assert before["gather"] - after["gather"] == 4  # K and V of two layers
    assert before["custom-call"] == after["custom-call"] == 2
    assert (out / "before.hlo.pb").stat().st_size > (out / "after.hlo.pb").stat().st_size
    assert not (out / "command.txt").exists()
    module = parse_module((out / "after.hlo.pb").read_bytes())
    targets = {i.custom_call_target for c in module.computations for i in c.instructions} - {""}
    assert targets == {NEURON_KERNEL}


@needs_torch_xla
def test_the_prefix_that_leaves_through_a_marker_is_in_the_hlo_before(compiled: Compiled) -> None:
    out = compiled("boundary-markers", "inf2")
    assert opcodes(out, "before")["gather"] - opcodes(out, "after")["gather"] == 4
    assert opcodes(out, "after")["opt-barrier"] == 4


@needs_torch_xla
def test_xla_computes_what_torch_does(tmp_path: Path) -> None:
    decoder = build_decoder("tiny", "cache-update", batch=2, bucket=64, device="cpu")
    random_weights(decoder, 0)
    random_caches(decoder, 1)
    inputs = random_inputs(decoder, 3, padded=True)
    graph = PrunePrefixCache()(capture(decoder, inputs, aliases=decoder.aliases())).graph_module
    request = BackendRequest(graph, graph, inputs, graph.meta["capture"].aliases, "inf2", tmp_path)
    get_backend("torch-xla").run(request)
    values = {**request.named_inputs(), **dict(decoder.named_parameters()), **dict(decoder.named_buffers())}
    given = [values[p["name"]] for p in sorted(_used(tmp_path), key=lambda p: int(p["number"]))]
    found = run_binary((tmp_path / "after.hlo.pb").read_bytes(), [_numpy(value) for value in given])
    with torch.no_grad():
        expected = graph(*inputs)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-4, atol=2e-5)


def _used(out: Path) -> list[dict[str, Any]]:
    return [parameter for parameter in parameters(out, "after")["parameters"] if parameter["number"] is not None]


def _numpy(tensor: Tensor) -> Any:
    return to_numpy(tensor.detach(), "operand")


class Mixed(nn.Module):
    """Numbers of several dtypes, an input without a use, a tied weight, and a cache written without being returned."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 2.0), requires_grad=False)
        self.tied = self.weight
        self.short = nn.Parameter(torch.ones(3, dtype=torch.bfloat16), requires_grad=False)
        self.cache = nn.Parameter(torch.zeros(4, 3), requires_grad=False)

    def forward(self, unused: Tensor, x: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 3.5 + self.weight * self.tied
        self.cache.index_copy_(0, slot.long() + 2, y.unsqueeze(0))
        steps = torch.arange(3, device=x.device)
        return y + steps, self.short * 1.5


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = (torch.ones(7), torch.ones(3), torch.tensor([1], dtype=torch.int32))
    graph = capture(Mixed(), inputs)
    out = tmp_path_factory.mktemp("mixed")
    get_backend("torch-xla").run(BackendRequest(graph, graph, inputs, (), "inf2", out))
    return out


@needs_torch_xla
def test_parameters_are_inputs_then_weights(mixed: Path) -> None:
    described = [(p["number"], p["kind"], p["name"], p["alias"]) for p in parameters(mixed, "after")["parameters"]]
    assert described == [
        (None, "input", "unused", None),
        (0, "input", "x", None),
        (1, "input", "slot", None),
        (2, "parameter", "cache", 2),
        (3, "parameter", "short", None),
        (4, "parameter", "weight", None),
    ]
    module = parse_module((mixed / "after.hlo.pb").read_bytes())
    assert alias_pairs(module) == {2: 2}
    assert list(module.host_program_shape.parameter_names) == [f"p{number}" for number in range(5)]


@needs_torch_xla
def test_numbers_are_constants(mixed: Path) -> None:
    given = [
        torch.ones(3),
        torch.tensor([1], dtype=torch.int32),
        torch.zeros(4, 3),
        torch.ones(3, dtype=torch.bfloat16),
        torch.full((3,), 2.0),
    ]
    y, half, cache = run_binary((mixed / "after.hlo.pb").read_bytes(), [_numpy(tensor) for tensor in given])
    np.testing.assert_array_equal(y, [7.5, 8.5, 9.5])
    np.testing.assert_array_equal(half.astype(np.float32), [1.5, 1.5, 1.5])
    np.testing.assert_array_equal(cache[3], [7.5, 7.5, 7.5])
    assert not cache[:3].any()


def request_for(model: Callable[..., Any], inputs: tuple[Any, ...], out: Path, **options: Any) -> BackendRequest:
    graph = capture(model, inputs)
    return BackendRequest(graph, graph, inputs, options.pop("aliases", ()), "inf2", out, **options)


@needs_torch_xla
def test_what_depends_on_values_is_refused(tmp_path: Path) -> None:
    request = request_for(lambda x: torch.nonzero(x), (torch.ones(3),), tmp_path)
    with pytest.raises(DeadkvError, match=r"torch_xla cannot lower aten\.\w+\.\w+ \(node \w+\)"):
        get_backend("torch-xla").run(request)
    assert not list(tmp_path.iterdir())


@needs_torch_xla
def test_someone_elses_operator_is_refused(tmp_path: Path) -> None:
    torch.library.define("xla_road_test::double", "(Tensor x) -> Tensor")
    torch.library.impl("xla_road_test::double", "default", lambda x: x * 2)
    torch.library.register_fake("xla_road_test::double", torch.empty_like)
    request = request_for(lambda x: torch.ops.xla_road_test.double(x), (torch.ones(3),), tmp_path)
    with pytest.raises(
        DeadkvError, match=r"no lowering for xla_road_test\.double\.default \(node \w+\): trace the model"
    ):
        get_backend("torch-xla").run(request)


@needs_torch_xla
def test_a_dtype_without_placeholders_is_refused(tmp_path: Path) -> None:
    request = request_for(lambda x: x.float(), (torch.ones(3).to(torch.float8_e4m3fn),), tmp_path)
    with pytest.raises(
        DeadkvError, match="no placeholders of dtype float8_e4m3fn, which 'x' has: choose --backend hlo"
    ):
        get_backend("torch-xla").run(request)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"no_such": 0}, "alias 'no_such' -> output 0: the graph has no input or parameter of that name"),
        ({"x": 1}, "alias 'x' -> output 1: the graph has 1 outputs"),
        ({"y": 0}, r"alias 'y' -> output 0: float32\[2\] cannot hold float32\[3\]"),
        ({"unused": 0}, "alias 'unused' -> output 0: no result depends on it"),
    ],
)
def test_an_alias_that_does_not_fit(aliases: dict[str, int], message: str) -> None:
    shapes = {"x": (0, 3), "y": (1, 2), "unused": (-1, 3), "cache": (2, 3)}
    held = tuple(
        Held(Spec(name, (size,), "float32"), "input", number, (name,)) for name, (number, size) in shapes.items()
    )
    outputs = (Spec("0", (3,), "float32"), Spec("1", (3,), "float32"))
    facts = Facts(held, (), outputs, ("cache",))
    assert all_aliases(facts, {"x": 0}) == {"x": 0, "cache": 1}
    with pytest.raises(DeadkvError, match=message):
        all_aliases(facts, aliases)


@needs_torch_xla
def test_a_time_limit(tmp_path: Path) -> None:
    with pytest.raises(DeadkvError, match=r"torch_xla did not lower the graph within 0\.01 s"):
        get_backend("torch-xla").run(request_for(lambda x: x + 1, (torch.ones(3),), tmp_path, timeout_s=0.01))


def test_without_the_package_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracing.backends.xla.installed", lambda package: package != "torch_xla")
    assert not TorchXlaBackend().available()
    with pytest.raises(DeadkvError, match=r"backend 'torch-xla' is not installed: pip install 'deadkv\[xla\]'"):
        get_backend("torch-xla")
    with pytest.raises(DeadkvError, match=r"pip install 'deadkv\[xla\]'"):
        TorchXlaBackend().run(request_for(lambda x: x + 1, (torch.ones(3),), tmp_path))
