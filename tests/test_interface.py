"""What the passes leave as it was: all of a module but the nodes they remove. Every pass, in place and as a copy.

Beside it, what torch makes of the result: deepcopy, pickle, export, save, compile.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx import GraphModule

from passes import DedupPrefixCache, PassPipeline, PrunePrefixCache, PruneVerificationError
from tests.support.builder import decode_graph, decode_inputs
from tests.support.outcomes import LIVENESS, captured, gathered_twice
from tests.support.prunes import assert_same_behaviour
from tests.test_regions import Decode, three_layers
from tracing import with_passes
from tracing.graph import document, text

Made = Callable[[], GraphModule]
PLACES = pytest.mark.parametrize("inplace", [False, True], ids=["copy", "inplace"])
aten = torch.ops.aten


class Model(nn.Module):
    """Reads a dead prefix twice over; beside it one of everything that a module can hold."""

    def __init__(self, live: bool = False) -> None:
        super().__init__()
        self.live = live
        self.unused = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(8)
        self.frozen = nn.Parameter(torch.ones(8), requires_grad=False)
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.rand(10, 4, 2, 8), requires_grad=False)])
        self.tied = self.norm.weight
        self.register_buffer("scale", torch.full((8,), 2.0))
        self.register_buffer("scratch", torch.full((8,), 3.0), persistent=False)

    def prefix(self, block_table: Tensor) -> Tensor:
        gathered = self.past_key_values[0].index_select(0, block_table.reshape(-1))
        return gathered.reshape(3, -1, 2, 8).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, block_table: Tensor) -> Tensor:
        first, second = self.prefix(block_table), self.prefix(block_table)
        x = self.norm(x * self.scale + self.scratch) * self.frozen * self.tied
        return x + first + second if self.live else x


def exported(live: bool = False) -> GraphModule:
    """The model through torch.export: a subclass of GraphModule with containers for inputs, hooks and guards."""
    module = torch.export.export(Model(live), decode_inputs()).module()
    assert isinstance(module, GraphModule)
    return module


@dataclass(frozen=True)
class Case:
    """A pass and a graph that it edits."""

    make: Made
    cls: type[Any]

    def run(self, module: GraphModule, *, inplace: bool) -> GraphModule:
        result = self.cls(**LIVENESS[self.cls], inplace=inplace)(module)
        assert result.modified and (result.graph_module is module) == inplace
        found: GraphModule = result.graph_module
        return found


GRAPHS = {
    "prune": Case(decode_graph, PrunePrefixCache),
    "prune-exported": Case(exported, PrunePrefixCache),
    "prune-regions": Case(lambda: three_layers(Decode(), last_needs_all=True), PrunePrefixCache),
    "prune-decoder": Case(lambda: captured("regional"), PrunePrefixCache),
    "dedup": Case(gathered_twice, DedupPrefixCache),
    "dedup-exported": Case(lambda: exported(live=True), DedupPrefixCache),
}
EVERY = pytest.mark.parametrize("case", GRAPHS.values(), ids=GRAPHS)


def dressed(case: Case) -> GraphModule:
    """The graph of a case, with all that a user may have hung on it."""
    module = case.make()
    module.register_forward_pre_hook(_before)
    module.register_forward_hook(_after)
    module.register_state_dict_pre_hook(_before_state)
    module.register_load_state_dict_post_hook(_after_load)
    module.eager_note = ["mine"]
    module.meta["mine"] = 1
    module.training = False
    for number, node in enumerate(module.graph.nodes):
        node.meta.update(
            stack_trace=f'File "{number}.py", line 1', nn_module_stack={"": ("", Model)}, from_node=[number]
        )
        node._dynamo_source = f"L['{number}']"
    return module


def _before(module: nn.Module, args: Any) -> None:
    module.eager_note.append("before")  # type: ignore[union-attr]


def _after(module: nn.Module, args: Any, result: Any) -> None:
    module.eager_note.append("after")  # type: ignore[union-attr]


def _before_state(module: nn.Module, prefix: str, keep: bool) -> None:
    """A hook of no effect."""


def _after_load(module: nn.Module, keys: Any) -> None:
    """A hook of no effect."""


def interface(module: GraphModule) -> dict[str, Any]:
    """What no pass may change, in a form that compares equal only for the very same objects."""
    output = module.graph.output_node()
    return {
        "parameters": [(name, id(p), p.requires_grad) for name, p in module.named_parameters(remove_duplicate=False)],
        "buffers": [(name, id(b)) for name, b in module.named_buffers(remove_duplicate=False)],
        "state": [(name, value.data_ptr()) for name, value in module.state_dict().items()],
        "training": [child.training for _, child in module.named_modules() if not isinstance(child, GraphModule)],
        "flag": module.training,
        "hooks": [(name, copy.copy(found)) for name, found in vars(module).items() if name.endswith("hooks")],
        "with_kwargs": dict(module._forward_pre_hooks_with_kwargs),
        "class": type(module).__mro__[1:],
        "name": type(module).__name__,
        "attributes": sorted(vars(module)),
        "note": id(module.eager_note),
        "meta": dict(module.meta),
        "inputs": [(node.name, node.target, node.type) for node in module.graph.find_nodes(op="placeholder")],
        "containers": type(output.args[0]),
        "outputs": [getattr(found, "meta", found) for found in _flat(output.args[0])],
        "codegen": module.graph._codegen,
    }


def _flat(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, (tuple, list)) else [value]


@EVERY
@PLACES
def test_the_interface_stays(case: Case, inplace: bool) -> None:
    module = dressed(case)
    before, nodes = interface(module), {node.name: (dict(node.meta), dict(vars(node))) for node in module.graph.nodes}
    code = module.code
    after = case.run(module, inplace=inplace)
    for name, found in interface(after).items():
        assert found == before[name], name
    if not inplace:
        assert module.code == code
        for name, found in interface(module).items():
            assert found == before[name], name
    for node in after.graph.nodes:
        meta, attributes = nodes[node.name]
        assert vars(node) == attributes
        for key in ("stack_trace", "nn_module_stack", "from_node"):
            assert node.meta[key] == meta[key]
        if not any(child.op == "get_attr" for child in node.all_input_nodes):
            assert node.meta == meta


@EVERY
def test_copies_share_no_table(case: Case) -> None:
    """What is hung on the copy later is not on the original, nor the other way round."""
    module = dressed(case)
    before = interface(module)
    after = case.run(module, inplace=False)
    after.register_forward_hook(lambda *given: None)
    after.register_buffer("later", torch.ones(1))
    after.add_module("later_module", nn.Identity())
    after.meta["later"] = 1
    assert interface(module) == before


@pytest.mark.parametrize("case", [GRAPHS["prune"], GRAPHS["dedup"]], ids=["prune", "dedup"])
@PLACES
def test_a_deepcopy_and_what_was_pickled_compute_the_same(case: Case, inplace: bool) -> None:
    after = case.run(case.make(), inplace=inplace)
    for copied in (copy.deepcopy(after), pickle.loads(pickle.dumps(after))):
        assert len(copied.graph.nodes) == len(after.graph.nodes)
        assert list(copied.state_dict()) == list(after.state_dict())
        assert_same_behaviour(after, copied, decode_inputs())


@EVERY
@PLACES
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
def test_a_deepcopy_is_the_same_graph_with_its_own_parameters(case: Case, inplace: bool) -> None:
    after = case.run(case.make(), inplace=inplace)
    copied = copy.deepcopy(after)
    assert text(document(copied)) == text(document(after))
    assert [name for name, _ in copied.named_parameters()] == [name for name, _ in after.named_parameters()]
    pairs = zip(copied.parameters(), after.parameters(), strict=True)
    assert all(one is not other for one, other in pairs)


def called_module() -> GraphModule:
    """A site that goes into a submodule, two containers down, which reads it for a result that nobody takes."""
    build = Decode()
    build.root.add_module("outer", nn.Module())
    build.root.outer.add_module("inner", nn.Module())  # type: ignore[union-attr]
    build.root.outer.inner.add_module("layer", build.layer())  # type: ignore[union-attr]
    return build.returning((build.item(build.call_module("outer.inner.layer", build.x, build.prior), 0),))


@PLACES
def test_a_module_of_submodules_pickles(inplace: bool) -> None:
    after = GRAPHS["prune"].cls(policy="liveness", inplace=inplace)(called_module()).graph_module
    copied = pickle.loads(pickle.dumps(after))
    body = copied.get_submodule("outer.inner.layer")
    assert [node.name for node in body.graph.nodes] == ["x", "add_tensor", "output"]
    assert_same_behaviour(after, copied, decode_inputs())


def test_pruning_in_place_leaves_containers_alone_that_others_hold() -> None:
    module = called_module()
    outer = module.outer
    body = outer.inner.layer
    PrunePrefixCache(policy="liveness", inplace=True)(module)
    assert module.outer is not outer and module.outer.inner.layer is not body
    assert outer.inner.layer is body and len(body.graph.find_nodes(op="placeholder")) == 2


@dataclass(frozen=True)
class Spoiling(PrunePrefixCache):
    """The pass, with a bug: it drops an output."""

    def call(self, graph_module: GraphModule) -> Any:
        result = super().call(graph_module)
        output = result.graph_module.graph.output_node()
        output.args = (output.args[0][:-1],)
        return result


@pytest.mark.parametrize(
    "make", [called_module, GRAPHS["prune-regions"].make, decode_graph], ids=["deep", "regions", "flat"]
)
def test_a_refused_edit_in_place_is_undone_with_its_nested_graphs(make: Made) -> None:
    module = make()
    code = [found.code for found in module.modules() if isinstance(found, GraphModule)]
    with pytest.raises(PruneVerificationError):
        PassPipeline([Spoiling(policy="liveness", inplace=True)])(module)
    assert [found.code for found in module.modules() if isinstance(found, GraphModule)] == code


@pytest.mark.parametrize("case", [GRAPHS["prune-exported"], GRAPHS["dedup-exported"]], ids=["prune", "dedup"])
@PLACES
def test_an_exported_program_is_edited_exported_saved_and_loaded(case: Case, inplace: bool) -> None:
    inputs = decode_inputs()
    before = case.make()
    expected, state = before(*inputs), list(before.state_dict())
    after = case.run(before, inplace=inplace)
    with pytest.raises(AssertionError, match="Guard failed"):
        after(inputs[0][:2], inputs[1])
    again = torch.export.export(after, inputs)
    file = io.BytesIO()
    torch.export.save(again, file)
    file.seek(0)
    loaded = torch.export.load(file)
    assert list(after.state_dict()) == state
    assert sorted(loaded.state_dict) == sorted(state)
    gathers = [node for node in loaded.graph.nodes if node.target is aten.index_select.default]
    assert len(gathers) == (1 if case.cls is DedupPrefixCache else 0)
    for module in (after, again.module(), loaded.module()):
        assert torch.equal(module(*inputs), expected)
    for change in (after.train, after.eval):
        assert change.__self__ is after  # type: ignore[attr-defined]
        with pytest.raises(NotImplementedError):
            change()


COMPILED = pytest.mark.parametrize(
    ("step", "live"),
    [("prune-prefix-cache{policy=liveness}", False), ("dedup-prefix-cache", True)],
    ids=["prune", "dedup"],
)
WHERE = pytest.mark.parametrize("options", ["", "inplace=true"], ids=["copy", "inplace"])


def spec(step: str, options: str) -> str:
    if not options:
        return step
    return f"{step[:-1]},{options}}}" if step.endswith("}") else f"{step}{{{options}}}"


@COMPILED
@WHERE
@pytest.mark.parametrize("inner", ["eager", "aot_eager"])
def test_compiled_twice_it_hits_the_cache_and_keeps_its_guards(step: str, live: bool, options: str, inner: str) -> None:
    model = Model(live).requires_grad_(False)
    counter = CompileCounterWithBackend(inner)
    backend = with_passes(counter, [spec(step, options)])
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=False)
    x, table = decode_inputs()
    for _ in range(2):
        assert torch.equal(compiled(x, table), model(x, table))
    assert counter.frame_count == 1
    assert torch.equal(torch.compile(model, backend=backend, fullgraph=True, dynamic=False)(x, table), model(x, table))
    assert counter.frame_count == 1
    wider = torch.cat([table, table], dim=1)
    longer = x.repeat(1, 1, 2, 1)
    assert torch.equal(compiled(longer, wider), model(longer, wider))
    assert counter.frame_count == 2
    model.eval()
    model.live = not live
    assert torch.equal(compiled(x, table), model(x, table))
    assert counter.frame_count == 3
    model.live = live
    assert torch.equal(compiled(x, table), model(x, table))


@COMPILED
@WHERE
def test_a_compiled_graph_guards_against_inputs_that_are_one_tensor(step: str, live: bool, options: str) -> None:
    """AOTAutograd guards by the sources that Dynamo leaves on the graph and its inputs: they must come through."""
    seen: list[GraphModule] = []

    def record(module: GraphModule, inputs: list[Tensor]) -> Any:
        seen.append(module)
        return module.forward

    model = Model(live).requires_grad_(False)
    torch.compile(model, backend=with_passes(record, [spec(step, options)]), fullgraph=True)(*decode_inputs())
    (module,) = seen
    assert hasattr(module, "_param_name_to_source")
    assert all(hasattr(node, "_dynamo_source") for node in module.graph.find_nodes(op="placeholder"))
