"""Model and example inputs in; pruned graph, proof, diff and the compiler's artefacts out.

model + example inputs -> capture -> [passes, each verified] -> diff and report -> backend
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, InputMap, PassPipeline, PipelineResult, PruneReport
from tracing.backends import TIME_LIMIT_S, Backend, BackendRequest, BackendResult, get_backend, get_target
from tracing.capture import capture
from tracing.dump import graph_dump
from tracing.graph import GraphDoc, diff, document, dumps, render_html, render_text, text
from tracing.output import check_output_folder, output_folder

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CompileResult:
    """What compile_tkg made.

    Attributes:
        before: the captured graph.
        graph_module: the graph after all passes; it shares its parameters with `before` and with the model.
        modified: whether any pass changed it.
        pipeline: what each pass did, with its report.
        backend: what the backend wrote and ran, or None if no backend was asked for.
        out_dir: the folder with the artefacts, or None if none was asked for.
    """

    before: GraphModule
    graph_module: GraphModule
    modified: bool
    pipeline: PipelineResult
    backend: BackendResult | None
    out_dir: Path | None

    @property
    def report(self) -> PruneReport | None:
        """The report of the first pruning pass, or None if there was none."""
        return next(iter(self.pipeline.reports), None)

    @property
    def input_map(self) -> InputMap:
        """Which inputs of `before` are which of `graph_module`; its `select` picks what to call the graph with."""
        return self.pipeline.input_map


def compile_tkg(
    model: Callable[..., Any],
    example_inputs: Sequence[Tensor],
    *,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    backend: str | None = "auto",
    target: str = "inf2",
    out_dir: str | Path | None = None,
    frontend: str = "make_fx",
    aliases: Mapping[nn.Parameter, int] | None = None,
    compiler_args: Sequence[str] = (),
    keep_unverified: bool = False,
    timeout_s: float | None = TIME_LIMIT_S,
    dry_run: bool = False,
    dump: str | Path | None = None,
    progress: Progress = lambda stage: None,
    log: Callable[[str], None] = lambda line: None,
) -> CompileResult:
    """Captures a token-generation model, runs the passes, verifies them and hands the graph to a compiler.

    Args:
        model: the model, or any callable over tensors. Its parameters may be on the meta device.
        example_inputs: positional inputs; only shapes and dtypes matter.
        passes: passes to run, as objects or as text such as `prune-prefix-cache{policy=liveness}`.
        backend: "torch-neuronx", "neuronx-cc", "hlo", "auto" for the best that is installed
            (torch-neuronx only if the parameters have values), None for no hand-off.
            A backend writes files, so it needs `out_dir`; without `out_dir` nothing is handed on.
        target: "inf2", "trn1" or "trn2".
        out_dir: folder for the artefacts; it must not exist. It is complete or absent.
        frontend: "make_fx", "export" or "dynamo".
        aliases: `{parameter: output index}`, as torch_neuronx takes them.
        compiler_args: further arguments for the Neuron compiler.
        keep_unverified: hand the unpruned graph on if the verifier refuses the pruned one, instead of raising.
        timeout_s: limit for the compiler's run, in seconds; None for no limit.
        dry_run: write the compiler's input and command, and do not run it even where it is installed.
        dump: folder for the graphs before and after each pass that changed something, by default the one that the
            environment variable DEADKV_DUMP names (`tracing.dump`).
        progress: called with the name of each stage.
        log: called with each line that a compiler prints.

    Raises:
        DeadkvError: an argument cannot be used, the model does not trace, or the compiler fails.
        PruneVerificationError: a pruned graph is not provably equivalent.
    """
    pipeline = PassPipeline(passes, keep_unverified=keep_unverified)
    get_target(target)
    check_timeout(timeout_s)
    wanted = backend is not None and out_dir is not None
    chosen = _backend(backend or "auto", model, dry_run) if wanted else None
    folder = None if out_dir is None else Path(out_dir)
    if folder is not None:
        check_output_folder(folder)
    progress("capture")
    before = capture(model, example_inputs, frontend=frontend, aliases=aliases, progress=progress)
    progress("passes")
    result = pipeline(before, graph_dump(dump, "graph" if folder is None else folder.name))
    if folder is None:
        return CompileResult(before, result.graph_module, result.modified, result, None, None)
    with output_folder(folder) as scratch:
        progress("diff")
        write_graphs(scratch, before, result)
        done = None
        if chosen is not None:
            progress(f"backend {chosen.name}")
            request = BackendRequest(
                before, result.graph_module, tuple(example_inputs), before.meta["capture"].aliases, target, scratch,
                compiler_args=tuple(compiler_args), log=log, progress=progress, timeout_s=timeout_s,
                dry_run=dry_run,
            )  # fmt: skip
            done = chosen.run(request)
    return CompileResult(before, result.graph_module, result.modified, result, done, folder)


def check_timeout(seconds: float | None) -> None:
    """Refuses a time limit that is no positive number of seconds; None is no limit."""
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise DeadkvError(f"the time limit is {seconds:g} s: give a positive number of seconds, or none for no limit")


def _backend(name: str, model: object, dry_run: bool) -> Backend:
    return get_backend(name, have_weights=_has_weights(model), dry_run=dry_run)


def _has_weights(model: object) -> bool:
    return not isinstance(model, nn.Module) or not any(p.is_meta for p in model.parameters())


def write_graphs(folder: Path, before: GraphModule, result: PipelineResult) -> None:
    """Writes both graphs (JSON and text), their diff (text and HTML) and the passes' reports into `folder`.

    `report.json` is the first pruning pass's, `report.NAME.json` that of another pass NAME.
    """
    old, new = document(before), document(result.graph_module)
    report = next(iter(result.reports), None)
    found = None if report is None else report.to_dict()
    if found is not None:
        _write_json(folder / "report.json", found)
    for run in result.runs:
        if run.report is not None and not isinstance(run.report, PruneReport):
            _write_json(folder / f"report.{run.name}.json", run.report.to_dict())
    for stem, doc in (("before", old), ("after", new)):
        _write_graph(folder, stem, doc)
    changes = diff(old, new, report=found)
    (folder / "diff.txt").write_text(render_text(changes, color=False), encoding="utf-8")
    (folder / "diff.html").write_text(render_html(changes, old, new), encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_graph(folder: Path, stem: str, doc: GraphDoc) -> None:
    (folder / f"{stem}.graph.json").write_text(dumps(doc), encoding="utf-8")
    (folder / f"{stem}.graph.txt").write_text(text(doc), encoding="utf-8")
