"""Every variant traces with make_fx, torch.export and Dynamo; materialization costs what it does in NxDI."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.utils.stateless import _reparametrize_module

from tests.support.prunes import after_plain_dce
from tracing.decoder import (
    VARIANTS,
    Decoder,
    Variant,
    attention_block_tkg_cache_update_reference,
    attention_block_tkg_reference,
    build_decoder,
    random_caches,
    random_inputs,
    random_weights,
)

# Nested graphs, two decoders in one graph and one rank of several have tests of their own.
NESTED, RANKS, FUSED = ("regional", "scan"), ("tensor-parallel",), ("fused-draft-target",)
FLAT = [name for name in VARIANTS if name not in NESTED + RANKS + FUSED]
TEN_NODES = Counter({"get_attr": 2, "index_select": 2, "view": 4, "permute": 2})


def fake_capture(decoder: Decoder) -> tuple[fx.GraphModule, dict[int, str]]:
    """The aten graph from fake CPU tensors, and the name of each tensor it holds."""
    state = dict(decoder.named_parameters()) | dict(decoder.named_buffers())
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:  # torch 2.9 traces regions under one only
        fakes = {name: torch.empty(t.shape, dtype=t.dtype, device="cpu") for name, t in state.items()}
        inputs = [torch.empty(t.shape, dtype=t.dtype, device="cpu") for t in decoder.example_inputs()]
    with mode, _reparametrize_module(decoder, fakes):
        return make_fx(lambda *args: decoder(*args))(*inputs), {id(fake): name for name, fake in fakes.items()}


def tiny(variant: str | Variant, layers: int = 2) -> Decoder:
    return build_decoder("tiny", variant, layers=layers, batch=2, bucket=32)


@cache
def tiny_capture(variant: str) -> tuple[fx.GraphModule, dict[int, str]]:
    return fake_capture(tiny(variant))


def runnable(variant: str) -> Decoder:
    decoder = build_decoder("tiny", variant, layers=1, batch=2, bucket=32, device="cpu")
    random_weights(decoder, seed=0)
    random_caches(decoder, seed=1)
    return decoder


def kind(node: fx.Node) -> str:
    return node.op if node.op != "call_function" else str(getattr(node.target, "overloadpacket", node.target))


def canonical(module: fx.GraphModule, names: dict[int, str]) -> list[object]:
    """Each node as its operator, or the parameter's name, and its arguments with nodes as positions."""
    position = {node: index for index, node in enumerate(module.graph.nodes)}

    def line(node: fx.Node) -> object:
        target = names[id(getattr(module, node.target))] if node.op == "get_attr" else node.target
        arguments = fx.map_arg((node.args, node.kwargs), lambda operand: ("node", position[operand]))
        return node.op, str(target), arguments

    return [line(node) for node in module.graph.nodes]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("variant", [VARIANTS["base"], VARIANTS["cache-update"]], ids=["base", "cache-update"])
def test_materialization_is_ten_nodes_a_layer_and_the_edited_source_is_the_rest(variant: Variant, layers: int) -> None:
    twin = Variant(**vars(variant) | {"source_edit": True})
    base, base_names = fake_capture(tiny(variant, layers))
    edited, edited_names = fake_capture(tiny(twin, layers))
    before = Counter(node.op if node.op == "get_attr" else kind(node).split(".")[-1] for node in base.graph.nodes)
    base.graph.eliminate_dead_code()
    after = Counter(node.op if node.op == "get_attr" else kind(node).split(".")[-1] for node in base.graph.nodes)
    assert before - after == Counter({name: count * layers for name, count in TEN_NODES.items()})
    assert not edited.graph.eliminate_dead_code()
    assert canonical(base, base_names) == canonical(edited, edited_names)


NODES_PER_LAYER = {"base": 62, "hand-edited": 52, "cache-update": 47}


@pytest.mark.parametrize("variant, per_layer", NODES_PER_LAYER.items())
def test_graph_grows_by_the_same_nodes_with_each_layer(variant: str, per_layer: int) -> None:
    sizes = [
        len(fake_capture(build_decoder("llama-3.2-1b", variant, layers=layers))[0].graph.nodes) for layers in (1, 2, 16)
    ]
    assert sizes[1] - sizes[0] == per_layer
    assert sizes[2] - sizes[0] == 15 * per_layer


@pytest.mark.parametrize("variant", FLAT)
def test_make_fx_bakes_in_no_device_and_no_constant(variant: str) -> None:
    decoder, (module, names) = tiny(variant), tiny_capture(variant)
    assert not any("device" in node.kwargs for node in module.graph.nodes)
    held = {names[id(getattr(module, node.target))] for node in module.graph.find_nodes(op="get_attr")}
    assert held == {name for name, _ in (*decoder.named_parameters(), *decoder.named_buffers())}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_input_reaches_the_outputs(variant: str) -> None:
    module = after_plain_dce(tiny_capture(variant)[0])
    assert all(placeholder.users for placeholder in module.graph.find_nodes(op="placeholder"))


def test_all_126_layers_of_405b_trace_without_storage() -> None:
    module, _ = fake_capture(build_decoder("llama-3.1-405b", batch=4, bucket=8192))
    counts = Counter(kind(node) for node in module.graph.nodes)
    assert counts["aten.index_select"] == 252
    assert counts["deadkv.attention_block_tkg"] == 126


def make_fx_real(decoder: Decoder, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    return make_fx(decoder)(*inputs)


def exported(decoder: Decoder, inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    return torch.export.export(decoder, inputs, strict=False).module()


@pytest.mark.parametrize("frontend", [make_fx_real, exported])
@pytest.mark.parametrize("variant", FLAT)
def test_captured_graph_computes_what_the_decoder_does(variant: str, frontend: Callable[..., Any]) -> None:
    decoder = runnable(variant)
    inputs = random_inputs(decoder, 2, padded=False)
    assert_computes(frontend(decoder, inputs), decoder, inputs)


def assert_computes(captured: Callable[..., Any], decoder: Decoder, inputs: tuple[Tensor, ...]) -> None:
    random_caches(decoder, seed=1)
    actual = [t.clone() for t in captured(*inputs)]
    random_caches(decoder, seed=1)
    for ours, wanted in zip(actual, decoder(*inputs), strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("variant", FLAT)
def test_dynamo_graph_computes_it_too_and_holds_the_whole_gather(variant: str) -> None:
    graphs: list[fx.Graph] = []

    def backend(module: fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        graphs.append(module.graph)
        return module

    decoder = runnable(variant)
    compiled = torch.compile(decoder, backend=backend, fullgraph=True, dynamic=False)
    assert_computes(compiled, decoder, random_inputs(decoder, 2, padded=False))
    (graph,) = graphs
    if decoder.variant.token_generation:
        gathers = graph.find_nodes(op="call_method", target="index_select")
        assert len(gathers) == (2 if decoder.variant.materializes_prefix else 0)


@pytest.mark.parametrize("reference", [attention_block_tkg_reference, attention_block_tkg_cache_update_reference])
def test_attention_reference_traces_to_functional_aten(reference: Callable[..., Any]) -> None:
    """Inlining the op's reference where the op stands gives the op's results."""
    variant = "base" if reference is attention_block_tkg_reference else "cache-update"
    decoder = runnable(variant)
    seen: list[dict[str, Any]] = []
    arguments = [argument.name for argument in torch.ops.deadkv.attention_block_tkg.default._schema.arguments]

    class Recorder(fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if "attention_block_tkg" in str(target):
                seen.append(
                    {n: v.clone() if isinstance(v, Tensor) else v for n, v in zip(arguments, args, strict=False)}
                )
            return super().call_function(target, args, kwargs)

    inputs = random_inputs(decoder, 2, padded=False)
    Recorder(make_fx(decoder)(*inputs)).run(*inputs)
    (operands,) = seen
    tensors = {name: value for name, value in operands.items() if isinstance(value, Tensor)}
    static = {name: value for name, value in operands.items() if name not in tensors}
    traced = make_fx(lambda tensors: reference(**tensors, **static))(tensors)
    assert not any(
        node.target._schema.is_mutable for node in traced.graph.nodes if isinstance(node.target, torch._ops.OpOverload)
    )
    for actual, wanted in zip(traced(tensors), reference(**operands), strict=True):
        assert torch.equal(actual, wanted)
