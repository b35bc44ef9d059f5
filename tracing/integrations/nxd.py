"""The passes under NxD's model builders: ModelBuilder V1, which NxD Inference uses, and the functional API V2.

V1 asks a model instance for its module once a bucket, shards and loads weights by walking that module, and traces it
under lazy tensors. So the module stays what it is; only its `forward` is replaced, by one that captures and prunes when
it is called, after `get` has set the bucket on the module.
"""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase
from torch.utils import _pytree as pytree

from passes import DeadkvError, PassPipeline
from tracing.integrations.pruned import prune_model

TOKEN_GENERATION = "token_generation_model"
"""The tag under which NxD Inference compiles its token-generation submodel."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class ModelInstance(Protocol):
    """`neuronx_distributed.trace.model_builder.BaseModelInstance`, as far as ModelBuilder V1 calls it."""

    def load_module(self) -> None: ...

    def get(self, bucket_rank: int | None, **kwargs: Any) -> tuple[nn.Module, Mapping[Any, int]]: ...


class PrunedForward:
    """Stands in for `module.forward`: runs its pruned graph on the module's own current parameters.

    The graph is captured when it is called, for the shapes and dtypes of that call and for what the module's attributes
    hold then, and kept for further calls alike.
    """

    def __init__(self, module: nn.Module, pipeline: PassPipeline, frontend: str, keep_unpruned: bool) -> None:
        self.module, self.pipeline, self.frontend, self.keep_unpruned = module, pipeline, frontend, keep_unpruned
        self.forward = _undecorated(module.forward)
        self.graphs: dict[Hashable, GraphModule] = {}

    def __call__(self, *inputs: Any) -> Any:
        """What `forward` returns. Raises DeadkvError where it cannot be captured or pruned, unless `keep_unpruned`."""
        key = _signature(inputs)
        if key not in self.graphs:
            try:
                self.graphs[key] = self._pruned(inputs)
            except DeadkvError as error:
                if not self.keep_unpruned:
                    raise
                warnings.warn(f"deadkv: {type(self.module).__name__} is traced unpruned: {error}", stacklevel=2)
                return self.forward(*inputs)
        return self._run(self.graphs[key], inputs)

    def _pruned(self, inputs: Sequence[Any]) -> GraphModule:
        with _as_it_was(self.module, self.forward):
            return prune_model(self.module, inputs, self.pipeline, frontend=self.frontend)

    def _run(self, graph: GraphModule, inputs: Sequence[Any]) -> Any:
        state: dict[str, Tensor] = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        return torch.func.functional_call(graph, state, tuple(pytree.tree_leaves(inputs)))


class PrunedModelInstance:
    """A model instance whose module runs pruned. Whatever else the wrapped one has is reached through this one."""

    def __init__(self, inner: ModelInstance, pipeline: PassPipeline, frontend: str, keep_unpruned: bool) -> None:
        self.inner, self.pipeline, self.frontend, self.keep_unpruned = inner, pipeline, frontend, keep_unpruned

    def load_module(self) -> None:
        """As the wrapped instance does."""
        self.inner.load_module()

    def get(self, bucket_rank: int | None, **kwargs: Any) -> tuple[nn.Module, Mapping[Any, int]]:
        """The wrapped instance's module, the very object, with a pruned `forward`; its aliases as they are."""
        module, aliases = self.inner.get(bucket_rank, **kwargs)
        # A plain attribute: a module's state, children and type know nothing of it.
        module.__dict__["forward"] = PrunedForward(module, self.pipeline, self.frontend, self.keep_unpruned)
        return module, aliases

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # unpickling asks before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)


def with_passes_nxd(
    model_instance: ModelInstance,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    *,
    frontend: str = "make_fx",
    keep_unpruned: bool = False,
) -> PrunedModelInstance:
    """A model instance for `ModelBuilder.add(model_instance=...)` of NxD V1 whose module is traced pruned.

    `get` returns the same module and aliases as before; each bucket is captured after `get` has set it.

    Args:
        model_instance: a `BaseModelInstance`, such as NxD Inference's `DecoderModelInstance`.
        passes: passes to run, as objects or text.
        frontend: how the module is captured, "make_fx", "export" or "dynamo".
        keep_unpruned: where the module cannot be captured or pruned, warn and trace it as it is, instead of raising.

    Raises:
        DeadkvError: unknown pass or option.
    """
    return PrunedModelInstance(model_instance, PassPipeline(passes), frontend, keep_unpruned)


class Hook:
    """An attribute that was replaced, until `undo` is called or the `with` block ends."""

    def __init__(self, owner: Any, name: str, value: object) -> None:
        self._owner, self._name = owner, name
        self._own = {name: vars(owner)[name]} if name in vars(owner) else {}
        self._active = True
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put back what was there; a second call does nothing."""
        if self._active:
            self._active = False
            delattr(self._owner, self._name)
            for name, value in self._own.items():
                setattr(self._owner, name, value)

    def __enter__(self) -> Hook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def hook_model_wrapper(
    wrapper: Any,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    *,
    tags: Collection[str] = (TOKEN_GENERATION,),
    frontend: str = "make_fx",
    keep_unpruned: bool = False,
) -> Hook:
    """Have NxD Inference's `ModelWrapper.get_model_instance` return pruned model instances.

    hook = hook_model_wrapper(ModelWrapper, ["prune-prefix-cache"])  # before compile() makes its builder

    Args:
        wrapper: the class `ModelWrapper`, a class derived from it, or one wrapper object.
        passes, frontend, keep_unpruned: as in `with_passes_nxd`.
        tags: the submodels to prune, by `wrapper.tag`; the others are left alone.

    Returns:
        A handle that undoes it: `undo()`, or as a context manager.

    Raises:
        DeadkvError: `wrapper` has no `get_model_instance`, or an unknown pass or option.
    """
    original = getattr(wrapper, "get_model_instance", None)
    if not callable(original):
        name = wrapper.__name__ if isinstance(wrapper, type) else type(wrapper).__name__
        raise DeadkvError(f"{name} has no get_model_instance: give NxD Inference's ModelWrapper, or one of its objects")
    PassPipeline(passes)
    owned = () if isinstance(wrapper, type) else (wrapper,)

    def get_model_instance(*owner: Any) -> Any:
        (submodel,) = owned or owner
        instance = original(*owner)
        if submodel.tag not in tags:
            return instance
        return with_passes_nxd(instance, passes, frontend=frontend, keep_unpruned=keep_unpruned)

    return Hook(wrapper, "get_model_instance", get_model_instance)


def pruned_for_nxd(
    model: nn.Module,
    args: Sequence[Tensor] = (),
    kwargs: Mapping[str, Tensor] | None = None,
    *,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    frontend: str = "make_fx",
) -> GraphModule:
    """`model` for the functional API of NxD: `functions.trace(pruned_for_nxd(model, args), args=args)`.

    `forward` of the result names each input as that of `model` does, as `functions.trace` wants it; in-place updates of
    parameters stay in the graph, from which it derives the aliases. Shard checkpoints with `model` itself: the result
    has its parameters, under the same names, but not its layer classes.

    Raises:
        DeadkvError: an input is no tensor or does not fit, or the model cannot be captured.
        PruneVerificationError: a pruned graph is not provably equivalent.
    """
    inputs = _positional(model, args, kwargs or {})
    others = [name for name, value in inputs.items() if not isinstance(value, Tensor)]
    if others:
        raise DeadkvError(f"NxD takes tensors only, but input {others[0]!r} is a {type(inputs[others[0]]).__name__}")
    return prune_model(model, tuple(inputs.values()), PassPipeline(passes), frontend=frontend)


def _positional(model: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]) -> Mapping[str, Any]:
    signature = inspect.signature(model.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise DeadkvError(f"the inputs do not fit {type(model).__name__}.forward{signature}: {error}") from error
    if bound.kwargs:
        raise DeadkvError(
            f"input {next(iter(bound.kwargs))!r} of {type(model).__name__}.forward cannot be given by position, since "
            "an input before it is left out: give that one too"
        )
    return bound.arguments


def _undecorated(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward that the module came with, where an earlier bucket replaced it."""
    return forward.forward if isinstance(forward, PrunedForward) else forward


def _signature(inputs: Sequence[Any]) -> Hashable:
    leaves, structure = pytree.tree_flatten(tuple(inputs))
    described = (
        (tuple(leaf.shape), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves
    )
    return tuple(described), repr(structure)


@contextmanager
def _as_it_was(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """The module with its own `forward`, and without the hooks that run around whatever stands in for it."""
    replaced = {name: module.__dict__[name] for name in ("forward", *_HOOKS)}
    module.__dict__.update({"forward": forward, **{name: OrderedDict() for name in _HOOKS}})
    try:
        yield
    finally:
        module.__dict__.update(replaced)
