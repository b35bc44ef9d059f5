"""The binary HLO module in the form the Neuron compiler takes.

jaxlib writes instruction ids above 2^31, which older XLA importers refuse (`proto.id() <= INT_MAX`), names that count
dead instructions, and source locations. `canonical_module` gives every instruction and computation a dense id in an
order that depends only on the graph, names it after that id, and drops the locations. It removes no instruction.

Field numbers are those of XLA's `xla/service/hlo.proto`; fields not listed here are carried along unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _INT64, _BYTES, _MESSAGE = _Field.TYPE_STRING, _Field.TYPE_INT64, _Field.TYPE_BYTES, _Field.TYPE_MESSAGE
_INT32, _BOOL, _FLOAT, _DOUBLE = _Field.TYPE_INT32, _Field.TYPE_BOOL, _Field.TYPE_FLOAT, _Field.TYPE_DOUBLE
_PACKAGE = "deadkv.hlo"

# The custom-call target by which neuronx-cc knows an NKI kernel.
NEURON_KERNEL = "AwsNeuronCustomNativeKernel"

# message -> (field, number, type, repeated, message type)
_SCHEMA: dict[str, tuple[tuple[str, int, int, bool, str | None], ...]] = {
    "Literal": (
        ("shape", 1, _BYTES, False, None),
        ("preds", 2, _BOOL, True, None),
        ("s32s", 4, _INT32, True, None),
        ("s64s", 5, _INT64, True, None),
        ("f32s", 8, _FLOAT, True, None),
        ("f64s", 9, _DOUBLE, True, None),
        ("f16s", 11, _BYTES, False, None),
        ("bf16s", 13, _BYTES, False, None),
    ),
    "ProgramShape": (
        ("parameters", 1, _BYTES, True, None),
        ("parameter_names", 3, _STRING, True, None),
    ),
    "Instruction": (
        ("name", 1, _STRING, False, None),
        ("opcode", 2, _STRING, False, None),
        ("shape", 3, _BYTES, False, None),
        ("metadata", 7, _BYTES, False, None),
        ("literal", 8, _MESSAGE, False, "Literal"),
        ("parameter_number", 9, _INT64, False, None),
        ("custom_call_target", 28, _STRING, False, None),
        ("id", 35, _INT64, False, None),
        ("operand_ids", 36, _INT64, True, None),
        ("control_predecessor_ids", 37, _INT64, True, None),
        ("called_computation_ids", 38, _INT64, True, None),
        ("backend_config", 43, _BYTES, False, None),
    ),
    "Computation": (
        ("name", 1, _STRING, False, None),
        ("instructions", 2, _MESSAGE, True, "Instruction"),
        ("program_shape", 4, _MESSAGE, False, "ProgramShape"),
        ("id", 5, _INT64, False, None),
        ("root_id", 6, _INT64, False, None),
    ),
    "AliasEntry": (
        ("output_shape_index", 1, _INT64, True, None),
        ("parameter_number", 2, _INT64, False, None),
        ("parameter_shape_index", 3, _INT64, True, None),
        ("kind", 4, _INT64, False, None),
    ),
    "InputOutputAlias": (("entries", 1, _MESSAGE, True, "AliasEntry"),),
    "Module": (
        ("name", 1, _STRING, False, None),
        ("entry_computation_name", 2, _STRING, False, None),
        ("computations", 3, _MESSAGE, True, "Computation"),
        ("host_program_shape", 4, _MESSAGE, False, "ProgramShape"),
        ("id", 5, _INT64, False, None),
        ("entry_computation_id", 6, _INT64, False, None),
        ("schedule", 7, _BYTES, False, None),
        ("input_output_alias", 8, _MESSAGE, False, "InputOutputAlias"),
        ("stack_frame_index", 17, _BYTES, False, None),
    ),
}


def parse_module(data: bytes) -> Any:
    """The `HloModuleProto` in `data`, with the fields above readable by name and every other field kept."""
    module = _module_class()()
    module.ParseFromString(data)
    return module


def canonical_module(data: bytes, name: str) -> bytes:
    """The same module with dense 32-bit ids, names made from them and no source locations, serialized."""
    module = parse_module(data)
    module.name, module.id = name, 0
    module.ClearField("stack_frame_index")
    module.ClearField("schedule")
    _order_computations(module)
    for computation in module.computations:
        _order_instructions(computation)
    _renumber(module)
    serialized: bytes = module.SerializeToString(deterministic=True)
    return serialized


def alias_pairs(module: Any) -> dict[int, int]:
    """Parameter number -> output index, from the module's input/output alias map."""
    entries = module.input_output_alias.entries
    return {entry.parameter_number: entry.output_shape_index[0] for entry in entries}


def kernel_stand_ins(data: bytes) -> int:
    """How many custom calls to a Neuron kernel the module holds."""
    computations = parse_module(data).computations
    instructions = (instruction for computation in computations for instruction in computation.instructions)
    return sum(instruction.custom_call_target == NEURON_KERNEL for instruction in instructions)


@cache
def _module_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="deadkv_hlo.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _SCHEMA.items():
        file.message_type.add(name=message, field=[_field(*field) for field in fields])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Module"))


def _field(name: str, number: int, kind: int, repeated: bool, message: str | None) -> Any:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    type_name = f".{_PACKAGE}.{message}" if message else None
    return _Field(name=name, number=number, type=kind, label=label, type_name=type_name)


def _order_computations(module: Any) -> None:
    computations = {computation.id: computation for computation in module.computations}
    callees = {
        identity: [callee for instruction in computation.instructions for callee in instruction.called_computation_ids]
        for identity, computation in computations.items()
    }
    order = _post_order([module.entry_computation_id, *computations], callees)
    _replace(module.computations, [computations[identity] for identity in order])


def _order_instructions(computation: Any) -> None:
    instructions = {instruction.id: instruction for instruction in computation.instructions}
    parameters = [i for i in computation.instructions if i.opcode == "parameter"]
    operands = {i.id: [*i.operand_ids, *i.control_predecessor_ids] for i in computation.instructions}
    first = [i.id for i in sorted(parameters, key=lambda i: int(i.parameter_number))]
    order = _post_order([*first, computation.root_id, *instructions], operands)
    _replace(computation.instructions, [instructions[identity] for identity in order])


def _post_order(roots: Iterable[int], children: dict[int, list[int]]) -> Iterator[int]:
    """Every node reachable from `roots`, children first. Iterative: the graphs are deeper than Python's stack."""
    seen: set[int] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                yield node
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(children[node]))


def _replace(repeated: Any, messages: list[Any]) -> None:
    copies = [type(message).FromString(message.SerializeToString()) for message in messages]
    del repeated[:]
    repeated.extend(copies)


def _renumber(module: Any) -> None:
    instructions = [i for computation in module.computations for i in computation.instructions]
    ids = {instruction.id: new for new, instruction in enumerate(instructions, start=1)}
    computation_ids = {computation.id: new for new, computation in enumerate(module.computations, start=1)}
    for instruction in instructions:
        _renumber_instruction(instruction, ids, computation_ids)
    for computation in module.computations:
        computation.id = computation_ids[computation.id]
        computation.root_id = ids[computation.root_id]
        computation.name = f"computation.{computation.id}"
    module.entry_computation_id = computation_ids[module.entry_computation_id]
    module.entry_computation_name = f"computation.{module.entry_computation_id}"


def _renumber_instruction(instruction: Any, ids: dict[int, int], computation_ids: dict[int, int]) -> None:
    instruction.id = ids[instruction.id]
    instruction.name = f"{instruction.opcode}.{instruction.id}"
    instruction.ClearField("metadata")
    for field, table in (
        ("operand_ids", ids),
        ("control_predecessor_ids", ids),
        ("called_computation_ids", computation_ids),
    ):
        numbers = getattr(instruction, field)
        numbers[:] = [table[number] for number in numbers]
