"""Peers that leave a torch.fx graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._functorch.aot_autograd import aot_module_simplified
from torch._guards import TracingContext, detect_fake_mode, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.passes.dialect.common.cse_pass import CSEPass, get_CSE_banned_ops

from passes import DedupPrefixCache, PrunePrefixCache
from tests.bench.capability.gathers import in_fx
from tests.bench.capability.outcome import Outcome, effects_of, is_sound
from tests.bench.capability.subjects import Subject
from tests.cases.case import DEDUP


def deadkv(subject: Subject) -> Outcome:
    """The pass that the case is about, under the policy under which the case table expects it to act."""
    case, module = subject.case, subject.graph()
    step = DedupPrefixCache() if case.pass_name == DEDUP else PrunePrefixCache(policy=case.policy)
    result = step(module)
    step.verify(module, result)
    return _outcome(subject, result.graph_module, result.graph_module)


def eliminate_dead_code(subject: Subject) -> Outcome:
    """`torch.fx.Graph.eliminate_dead_code`."""
    module = subject.graph()
    module.graph.eliminate_dead_code()
    module.recompile()
    return _outcome(subject, module, module)


def common_subexpressions(subject: Subject) -> Outcome:
    """`CSEPass`, which merges duplicates."""
    result = CSEPass(banned_ops=get_CSE_banned_ops())(subject.graph())
    assert result is not None
    module = result.graph_module
    return _outcome(subject, module, module)


def functionalized(subject: Subject) -> Outcome:
    """`torch.func.functionalize` under make_fx, then dead-code elimination."""
    functional = torch.func.functionalize(subject.graph(), remove="mutations_and_views")
    module = make_fx(functional, tracing_mode="fake", _allow_non_fake_inputs=True)(*subject.inputs)
    module.graph.eliminate_dead_code()
    module.recompile()
    return _outcome(subject, module, module)


def exported(subject: Subject) -> Outcome:
    """`torch.export.export` and `run_decompositions`."""
    program = torch.export.export(subject.graph(), subject.inputs).run_decompositions()
    return _outcome(subject, program.graph_module, program.module())


def aot_autograd(subject: Subject) -> Outcome:
    """The forward graph that AOTAutograd gives its compiler."""
    seen: list[GraphModule] = []

    def compiler(module: GraphModule, inputs: Any) -> Callable[..., Any]:
        seen.append(module)
        return make_boxed_func(module.forward)

    with _tracing(subject) as inputs, torch.no_grad():
        compiled = aot_module_simplified(subject.graph(), inputs, fw_compiler=compiler)
    return _outcome(subject, seen[-1], compiled)


def inductor(subject: Subject) -> Outcome:
    """The graph after Inductor's post-grad passes, from which it would generate code."""
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.fx_passes.post_grad import post_grad_passes
    from torch._inductor.virtualized import V

    seen: list[GraphModule] = []

    def compiler(module: GraphModule, inputs: Any, **options: Any) -> Callable[..., Any]:
        values = [node.meta["val"] for node in module.graph.find_nodes(op="placeholder")]
        with V.set_fake_mode(detect_fake_mode(values)):
            post_grad_passes(module, is_inference=True)
        module.recompile()
        seen.append(module)
        return make_boxed_func(module.forward)

    with _tracing(subject) as inputs, torch.no_grad():
        compiled = compile_fx(subject.graph(), inputs, inner_compile=compiler)
        is_same = is_sound(subject, compiled)
    return Outcome(in_fx(seen[-1]), is_same, effects_of(seen[-1]))


def _outcome(subject: Subject, module: GraphModule, run: Callable[..., Any]) -> Outcome:
    return Outcome(in_fx(module), is_sound(subject, run), effects_of(module))


@contextmanager
def _tracing(subject: Subject) -> Iterator[list[Tensor]]:
    """What Dynamo sets up before it calls a compiler; yields the inputs as fake tensors of static shapes."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    with tracing(TracingContext(mode)):
        yield [mode.from_tensor(tensor, static_shapes=True) for tensor in subject.inputs]
