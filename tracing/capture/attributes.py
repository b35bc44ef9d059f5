"""What a captured GraphModule holds: the model's parameters and buffers under their names, and constants."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule

from passes.errors import DeadkvError
from tracing.capture.fake import FakeState
from tracing.capture.traced import Constant, Held, Registered


def mirror_state(model: nn.Module, module: GraphModule) -> None:
    """Register every parameter and buffer of `model` on `module`: same objects, same names, same order.

    Tied parameters keep all their names, and a buffer stays out of the state dict where the model keeps it out.
    """
    for prefix, owner in model.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            install(module, dot + name, parameter)
        for name, buffer in owner.named_buffers(recurse=False, remove_duplicate=False):
            install(module, dot + name, buffer, persistent=name not in owner._non_persistent_buffers_set)


def keep_state_dict_in_copies(module: GraphModule) -> None:
    """Have `copy.deepcopy` keep buffers out of the state dict: `GraphModule` would make its own persistent."""
    names = tuple(name for name in module._buffers if name in module._non_persistent_buffers_set)
    module._register_deepcopy_hook(partial(_make_non_persistent, names))


def _make_non_persistent(names: tuple[str, ...], module: nn.Module) -> None:
    module._non_persistent_buffers_set.update(names)


def install(module: GraphModule, target: str, value: object, *, persistent: bool = False) -> None:
    """Set the qualified name `target` to `value`; a plain tensor becomes a buffer.

    Raises:
        DeadkvError: `GraphModule` has an attribute of that name, such as `graph` or `code`.
    """
    *path, name = target.split(".")
    top = target.partition(".")[0]
    if hasattr(module, top) and top not in module._modules:
        raise DeadkvError(f"torch.fx.GraphModule reserves the name {top!r} (of {target!r}); rename it in the model")
    owner: nn.Module = module
    for child in path:
        if child not in owner._modules:
            owner.add_module(child, nn.Module())
        owner = owner.get_submodule(child)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        owner.register_buffer(name, value, persistent=persistent)
    else:
        setattr(owner, name, value)


def _refuse_without_values(tensor: Tensor, name: str | None) -> None:
    """On meta, a tensor that no stand-in replaced would put device="meta" into the graph."""
    if name and tensor.device.type == "meta":
        raise DeadkvError(
            f"the model reaches {name!r} on meta past its modules, through a plain list or attribute; "
            "keep it in an nn.ParameterList, or build the model on cpu"
        )
    if not name and (tensor.device.type == "meta" or isinstance(tensor, FakeTensor)):
        raise DeadkvError(
            f"the model uses a {tuple(tensor.shape)} tensor without values that is neither parameter nor buffer; "
            "register it as a buffer, or make it on a real device"
        )


class Attributes:
    """The targets that a graph's get_attr nodes read, and their fake values, all of one mode."""

    def __init__(self, module: GraphModule, state: FakeState, mode: FakeTensorMode) -> None:
        self.module = module
        self.state = state
        self.mode = mode
        self.values: dict[str, object] = {}
        self._constants: dict[int, str] = {}

    def fake(self, tensor: Tensor) -> Tensor:
        """`tensor` as a value of this graph."""
        return self.mode.from_tensor(tensor, static_shapes=True)

    def target(self, source: Registered | Constant | Held, value: object = None) -> str:
        """The qualified name to read `source` by; `value` is the fake value that was recorded for it."""
        if isinstance(source, Held):
            return self._held(source)
        if isinstance(source, Registered):
            return self._registered(source.name, value)
        name = self.state.name_of(source.value)
        _refuse_without_values(source.value, name)
        return self._registered(name, value) if name else self._constant(source.value, value)

    def _registered(self, name: str, value: object) -> str:
        if name not in self.values:
            self.values[name] = self.fake(self.state.fakes[name]) if value is None else value
        return name

    def _held(self, source: Held) -> str:
        if source.target not in self.values:
            install(self.module, source.target, source.value)
            self.values[source.target] = None
        return source.target

    def _constant(self, tensor: Tensor, value: object) -> str:
        """Constants are numbered in order of use, whatever the frontend called them."""
        target = self._constants.get(id(tensor))
        if target is None:
            target = self._constants[id(tensor)] = self._free_name()
            install(self.module, target, tensor)
            self.values[target] = self.fake(tensor) if value is None else value
        return target

    def _free_name(self) -> str:
        number = len(self._constants)
        while hasattr(self.module, f"_tensor_constant{number}"):
            number += 1
        return f"_tensor_constant{number}"
