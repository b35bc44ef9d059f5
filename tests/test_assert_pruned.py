"""`assert_pruned` and golden graphs: what they accept, what they say, and the example of docs/testing.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.fx import GraphModule

from passes import DeadkvError, PrunePrefixCache, PruneVerificationError
from tests.support.outcomes import captured
from tracing import capture
from tracing.decoder import build_decoder, random_caches, random_inputs, random_weights
from tracing.graph import document, text
from tracing.testing import GoldenMismatch, NotPruned, assert_pruned, check_golden
from tracing.testing.differential import first_difference

pytest_plugins = ["pytester"]
DOCS = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def base() -> GraphModule:
    return captured("base")


@pytest.fixture(scope="module")
def live() -> GraphModule:
    return captured("no-block-tkg")


def test_a_graph_that_is_pruned_passes(base: GraphModule) -> None:
    pruned = assert_pruned(
        base, sites=4, ops={"aten.index_select.default": 0, "aten.cat.default": 1}, reasons={"nothing uses it": 4}
    )
    assert pruned.report.summary["gathers_before"] == 4
    again = assert_pruned(base, PrunePrefixCache()(base).graph_module)
    assert text(document(again.graph_module)) == text(document(pruned.graph_module))


def test_a_live_site_is_named_with_its_pin_path(live: GraphModule) -> None:
    with pytest.raises(NotPruned) as raised:
        assert_pruned(live)
    first, *sites = str(raised.value).splitlines()
    assert first == "4 materialization sites are left:" and len(sites) == 4
    assert re.fullmatch(r"  layer 0 K \(kv_mgr.past_key_values.0\), live: read by .* \[\S+ -> .* -> output\]", sites[0])


def test_a_graph_without_sites_proves_nothing(base: GraphModule) -> None:
    pruned = PrunePrefixCache()(base).graph_module
    with pytest.raises(NotPruned, match="has 0 materialization sites, expected at least one"):
        assert_pruned(pruned, pruned)
    assert_pruned(pruned, pruned, sites=0)
    with pytest.raises(NotPruned, match="has 4 materialization sites, expected 3"):
        assert_pruned(base, sites=3)


def test_counts_and_reasons_are_held_against_the_graph(base: GraphModule) -> None:
    with pytest.raises(NotPruned, match=r"has 1 nodes of aten.cat.default, expected 0"):
        assert_pruned(base, ops={"aten.cat.default": 0})
    with pytest.raises(NotPruned, match=r"other reasons: \{'nothing uses it': 4\}, expected \{'no': 4\}"):
        assert_pruned(base, reasons={"no": 4})


def test_an_after_graph_that_is_not_equivalent_is_refused(base: GraphModule) -> None:
    after = PrunePrefixCache()(base).graph_module
    victim = next(node for node in after.graph.nodes if node.target is torch.ops.aten.silu.default)
    victim.target = torch.ops.aten.relu.default
    with pytest.raises(PruneVerificationError):
        assert_pruned(base, after)


def test_the_differential_run_compares_values_and_leaves_them() -> None:
    decoder = build_decoder("tiny", "cache-update", layers=1, batch=2, bucket=64, device="cpu")
    random_weights(decoder, 0)
    random_caches(decoder, 0)
    inputs = random_inputs(decoder, 0, padded=False)
    before = capture(decoder, inputs, aliases=decoder.aliases())
    state = {name: value.detach().clone() for name, value in decoder.named_parameters()}
    assert_pruned(before, inputs=inputs)
    assert all(torch.equal(value, state[name]) for name, value in decoder.named_parameters())
    padded = random_inputs(decoder, 0, padded=True)
    with pytest.raises(DeadkvError, match="the graph before does not run on these inputs"):
        assert_pruned(before, inputs=padded)
    with pytest.raises(DeadkvError, match="on meta, without values"):
        assert_pruned(before, inputs=[value.to("meta") for value in inputs])


class Written(torch.nn.Module):
    """Writes `value` into its state."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(2))
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps.add_(self.value)
        return x + 1


def test_a_difference_in_state_is_found() -> None:
    x = torch.zeros(2)
    one, other = (capture(Written(value), [x]) for value in (1.0, 2.0))
    other.register_buffer("steps", one.get_buffer("steps"))
    assert first_difference(one, other, [x]) == "parameter steps"
    assert first_difference(one, one, [x]) is None
    assert one.get_buffer("steps").sum() == 0


def test_goldens_are_written_compared_and_explained(base: GraphModule, live: GraphModule, tmp_path: Path) -> None:
    file = tmp_path / "goldens" / "base.txt"
    with pytest.raises(GoldenMismatch, match="is not there yet: run pytest --deadkv-update-goldens"):
        check_golden(base, file)
    check_golden(base, file, update=True)
    assert file.read_text() == text(document(base))
    check_golden(document(base), file)
    with pytest.raises(GoldenMismatch, match=r"the graph is not that of .*base.txt; if it was meant to change"):
        check_golden(live, file)
    with pytest.raises(GoldenMismatch) as raised:
        check_golden(PrunePrefixCache()(base).graph_module, file)
    changed = [line for line in str(raised.value).splitlines() if line[0] in "+-"]
    assert len(changed) == 20 and all(line.startswith("-    %: ") for line in changed)


MY_DECODER = """
import tracing.decoder


def my_decoder():
    return tracing.decoder.build_decoder("tiny", layers=1, batch=2, bucket=64)
"""


def test_the_example_of_the_docs_runs_in_a_suite_of_its_own(pytester: pytest.Pytester) -> None:
    """Five lines in a project that has nothing of this one's tests: golden missing, written, met, then missed."""
    example, conftest = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    pytester.makeconftest(conftest)
    (pytester.path / "test_tkg.py").write_text(example + MY_DECODER)
    pytester.runpytest_inprocess().stdout.fnmatch_lines("*GoldenMismatch*is not there yet*")
    pytester.runpytest_inprocess("--deadkv-update-goldens").assert_outcomes(passed=1)
    golden = pytester.path / "goldens" / "test_no_live_bhsd_in_my_tkg_graph.txt"
    assert golden.read_text().startswith("graph:\n")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    golden.write_text(golden.read_text().replace("aten.silu", "aten.relu"))
    pytester.runpytest_inprocess().stdout.fnmatch_lines("*GoldenMismatch: the graph is not that of*")


def test_pytest_is_imported_by_its_plugin_only() -> None:
    packages = [Path(__file__).parents[1] / name for name in ("passes", "tracing")]
    sources = [path for package in packages for path in sorted(package.rglob("*.py"))]
    importing = [
        path.name for path in sources if re.search(r"^\s*(import|from) pytest", path.read_text(), re.MULTILINE)
    ]
    assert importing == ["plugin.py"]
