"""The benchmarks' runner and page. Nothing is measured here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from passes import DeadkvError
from tests.bench import page
from tests.bench.__main__ import main
from tests.bench.benchmark import Plot, Row, Series, Table
from tests.bench.capability.gathers import in_fx, in_hlo, in_linalg, in_torch_mlir
from tests.bench.capability.subjects import subjects
from tests.bench.figures import COLOURS, INK, svg
from tests.bench.page import FIGURES, PAGE, RESULTS, files, markdown, parts_of, table
from tests.bench.registry import PLACES, chosen, load, place_of
from tests.bench.runner import Run, _in_time
from tests.bench.store import dumps, read_results
from tests.cases.measure import process_group
from tests.support.benchmarks import CALLS, Failing, Sample, Stuck
from tests.support.compilers import wait_until_gone

ROWS = ("size/1", "size/2", "absent")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "calls"
    monkeypatch.setenv(CALLS, str(path))
    return path


def measured(run: Run) -> list[str]:
    return [line for job in run.jobs() for line in run.measure(job, lambda row: None)]


def keys(calls: Path) -> list[str]:
    return [line.split()[0] for line in calls.read_text().splitlines()]


def test_a_run_goes_on_with_the_rows_that_are_there(tmp_path: Path, calls: Path) -> None:
    sample, out = Sample(), tmp_path / "out"
    seen: list[Row] = []
    for job in Run([sample], out).jobs():
        assert Run([sample], out).measure(job, seen.append) == []
    assert [row.key for row in seen] == keys(calls) == list(ROWS)
    again = Run([sample], out)
    assert again.jobs() == []
    assert list(again.rows(sample)) == list(ROWS)
    assert again.rows(sample)["size/2"].values == {"value": 2}
    assert again.rows(sample)["absent"].skipped == "needs a package"
    (out / "sample" / "size" / "2.json").unlink()
    (out / "sample" / "absent.json").write_text('{"row": ')
    assert [job.keys for job in again.jobs()] == [("size/2", "absent")]
    again.forget()
    assert [job.keys for job in again.jobs()] == [ROWS]


def test_rows_of_another_environment_are_measured_again(tmp_path: Path, calls: Path) -> None:
    sample = Sample()
    run = Run([sample], tmp_path)
    for key in ROWS:
        run._folders["sample"].write(Row(key, {}, None, 1.0))
    assert run.jobs() == []
    path = tmp_path / "sample" / "size" / "1.json"
    found = json.loads(path.read_text())
    found["environment"]["versions"]["torch"] = "2.0"
    path.write_text(json.dumps(found))
    assert [job.keys for job in run.jobs()] == [("size/1",)]


def test_a_row_that_raises_is_named_and_the_others_are_measured(tmp_path: Path, calls: Path) -> None:
    run = Run([Failing()], tmp_path)
    (line,) = measured(run)
    assert line.startswith("sample size/1: failed: see the end of ")
    log = (tmp_path / "sample.log").read_text()
    assert "ValueError: no such size" in log
    assert "what a tool prints" in log
    assert [job.keys for job in run.jobs()] == [("size/1",)]


CLI = """
import sys
from tests.bench import registry
registry.PLACES.clear()
registry.PLACES["sample"] = "tests.support.benchmarks:Stuck"
from tests.bench import page
from tests.bench.__main__ import main
main()
"""


def test_ctrl_c_leaves_what_is_measured_and_no_process(tmp_path: Path, calls: Path) -> None:
    command = [sys.executable, "-c", CLI, "--no-page", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for_lines(calls, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == (
        f"deadkv: stopped by SIGINT: 2 rows are left in {tmp_path}; the same command goes on with them"
    )
    wait_until_gone(int(calls.read_text().split()[-1]))
    assert [job.keys for job in Run([Stuck()], tmp_path).jobs()] == [("size/2", "absent")]


def wait_for_lines(path: Path, count: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_says_nothing_is_not_waited_for() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines, os.fdopen(writing, "w") as said:
        said.write("size/1\n")
        said.flush()
        heard = _in_time(lines, 0.2)
        assert next(heard) == "size/1"
        with pytest.raises(TimeoutError):
            next(heard)


def cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_an_unknown_name_lists_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "cots") == 2
    assert capsys.readouterr().err == f"deadkv: unknown benchmark 'cots': known are {', '.join(PLACES)}\n"


def test_the_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(monkeypatch, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(PLACES)


@pytest.mark.parametrize("name", PLACES)
def test_every_benchmark_keeps_the_interface(name: str) -> None:
    (benchmark,) = chosen([name])
    assert benchmark.name == name
    assert place_of(benchmark) == PLACES[name]
    found = benchmark.keys()
    assert found and len(set(found)) == len(found)
    assert all(re.fullmatch(r"[\w.-]+(/[\w.-]+)*", key) for key in found)
    skipped = {key: Row(key, {}, "not here", 0.0) for key in found}
    for rows in ({}, skipped):
        assert benchmark.section(rows).title


def test_the_page_is_what_its_results_say() -> None:
    results = read_results(RESULTS)
    assert RESULTS.read_text() == dumps(results)
    written = files(results)
    assert written.pop(PAGE) == PAGE.read_text()
    assert sorted(written) == sorted(FIGURES.glob("*"))
    for path, drawn in written.items():
        assert drawn == path.read_text(), path


def test_plots_have_names_of_their_own() -> None:
    plots = [plot.name for part in parts_of(read_results(RESULTS)) for plot in part.section.plots]
    assert len(set(plots)) == len(plots)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in plots)


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.json"
    assert read_results(path) == {}
    for content in ("[", "{}", '{"schema": 0, "benchmarks": {}}', '{"schema": 1, "benchmarks": {"cost": {}}}'):
        path.write_text(content)
        with pytest.raises(DeadkvError, match="remove it and measure again"):
            read_results(path)


def test_a_table_escapes_bars_and_aligns_numbers() -> None:
    found = Table("All.", ("row", "a|b", "c"), (("x", "1.5", "no"),))
    assert table(found) == "| row | a\\|b | c |\n| --- | ---: | --- |\n| x | 1.5 | no |"


def test_skipped_rows_are_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLACES, "sample", place_of(Sample()))  # type: ignore[arg-type]
    run = Run([Sample()], tmp_path)
    run._folders["sample"].write(Row("absent", {}, "needs a package", 0.0))
    assert "\nNot measured:\n\n- `absent`: needs a package\n" in markdown(parts_of(run.results()))


@pytest.mark.parametrize("draws", [True, False], ids=["with matplotlib", "without"])
def test_an_update_replaces_what_was_measured(draws: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {name: tmp_path / name for name in ("RESULTS", "PAGE", "FIGURES")}
    for name, path in paths.items():
        monkeypatch.setattr(page, name, path)
    monkeypatch.setattr(page, "can_draw", lambda: draws)
    monkeypatch.setitem(PLACES, "sample", place_of(Sample()))  # type: ignore[arg-type]
    monkeypatch.setitem(PLACES, "second", place_of(Sample()))  # type: ignore[arg-type]
    run = Run([Sample()], tmp_path / "out")
    for value in (1, 2):
        run._folders["sample"].write(Row("size/1", {"value": value}, None, 1.0))
        page.update({name: run.results()["sample"] for name in (("sample", "second") if value == 1 else ("second",))})
    found = read_results(paths["RESULTS"])
    assert [found[name].rows["size/1"].values for name in ("sample", "second")] == [{"value": 1}, {"value": 2}]
    assert paths["PAGE"].read_text().count("## Sample") == 2
    assert (paths["FIGURES"] / "sample.svg").exists() == draws


LINES = Plot("p", "Title", "x", "y", (Series("one", ((1, 2), (10, 30))), Series("two", ((1, 3), (10, 4)))), log_x=True)
BARS = Plot("q", "Title", "x", "y", (Series("one", (("a", 2), ("b", 3))), Series("two", (("a", 1),))), kind="bars")


@pytest.mark.parametrize("plot", [LINES, BARS], ids=["lines", "bars"])
def test_a_figure_is_the_same_bytes_each_time(plot: Plot) -> None:
    drawn = svg(plot)
    assert drawn == svg(plot)
    for text in ("Title", "one", "two"):
        assert f">{text}</text>" in drawn
    assert not re.search(r"20\d\d-\d\d-\d\d", drawn)


@pytest.mark.parametrize("paper", ["#ffffff", "#0d1117"])
def test_colours_stand_out_from_a_light_and_from_a_dark_page(paper: str) -> None:
    low = [colour for colour in (INK, *COLOURS) if contrast(colour, paper) < 3]
    assert low == []
    assert contrast(INK, paper) > 4


def contrast(one: str, other: str) -> float:
    """Of WCAG 2.2."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_too_many_series_are_refused() -> None:
    series = tuple(Series(f"{number}", ((1, 1),)) for number in range(7))
    with pytest.raises(DeadkvError, match="7 series, at most 6"):
        svg(Plot("p", "t", "x", "y", series))


def test_gathers_are_counted_as_the_case_table_counts_them() -> None:
    with process_group():
        for subject in list(subjects())[::9]:
            assert in_fx(subject.captured) == subject.case.before, subject.id


HLO = """
%gathered (pool: f32[10,4,2,8], small: f32[5,4], at: s32[12]) -> f32[12,4,2,8] {
  %p.1 = f32[10,4,2,8]{3,2,1,0} parameter(0)
  %p.2 = f32[5,4]{1,0} parameter(1)
  %g.1 = f32[12,1,4,2,8]{4,3,2,1,0} gather(%p.1, %p.3), offset_dims={1,2,3,4}
  %g.2 = f32[12,4]{1,0} gather(%p.2, %p.3), offset_dims={1}
  %g.3 = f32[12,1,4,2,8]{4,3,2,1,0} gather(f32[10,4,2,8]{3,2,1,0} %p.1, s32[12]{0} %p.3), offset_dims={1,2,3,4}
}
"""
MLIR = """
%3 = torch.aten.index_select %arg1, %int0, %2 : !torch.vtensor<[10,4,2,8],f32>, !torch.int -> !torch.vtensor<[12,4],f32>
%4 = torch.aten.index_select %arg0, %int0, %2 : !torch.vtensor<[5,4],f32>, !torch.int -> !torch.vtensor<[12,4],f32>
"""
LINALG = """
%extracted = tensor.extract %3[%15, %16, %17, %18] : tensor<10x4x2x8xf32>
%extracted_slice = tensor.extract_slice %1[0, 0] [1, 2] [1, 1] : tensor<10x4x2x8xf32> to tensor<2x16x8xf32>
%other = tensor.extract %3[%15] : tensor<3x4xi32>
"""


def test_gathers_of_the_pool_are_counted_in_other_tools_texts() -> None:
    assert (in_hlo(HLO), in_torch_mlir(MLIR), in_linalg(LINALG)) == (2, 1, 1)


def test_load_makes_what_place_of_names() -> None:
    assert isinstance(load(place_of(Stuck())), Stuck)
