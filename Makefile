# make demo    the main job on Llama-3.2-1B, into out/demo
# make test    the tests
# make lint    ruff and mypy --strict
# make fuzz    20,000 random graphs; GRAPHS=100000 SEED=7 for more and for others (`make test` takes 1,000)
# make mutation mutants of passes/, and the tests that kill them; FILES="passes/plan.py" SAMPLE=99 SEED=7
# make bench   measures everything that docs/benchmarks.md says, and writes it (30 minutes); FRESH=--fresh measures again
# make hlo-oracle  every lowering against torch on all of OpInfo's samples and on edge values (minutes)
# make golden  rewrite the golden files (then read the diff)
# make torch29 the tests on torch 2.9.1 with torch_xla 2.9.0, the versions of Neuron SDK 2.29 (several GB)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
GRAPHS ?= 20000
SEED ?= 1
FILES ?=
BENCHMARKS ?=
FRESH ?=
SAMPLE ?= 12

.PHONY: demo test lint fuzz mutation bench hlo-oracle golden torch29 clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hlo,test,lint]'
	touch $@

demo: $(VENV)/.installed
	rm -rf out/demo
	$(BIN)/deadkv compile --model llama-3.2-1b --out out/demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

fuzz: $(VENV)/.installed
	DEADKV_FUZZ_GRAPHS=$(GRAPHS) DEADKV_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -n $(WORKERS) tests/fuzz

mutation: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutation]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutation $(FILES) --sample $(SAMPLE) --seed $(SEED)

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

bench: $(VENV)/.bench
	$(BIN)/python -m tests.bench $(BENCHMARKS) $(FRESH)

hlo-oracle: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hlo_oracle

golden: $(VENV)/.installed
	$(BIN)/python -m pytest tests/test_goldens.py --snapshot-update

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv-torch29/.installed: pyproject.toml constraints.txt
	test -x .venv-torch29/bin/python || $(PYTHON) -m venv .venv-torch29
	grep -v '^torch==' constraints.txt > .venv-torch29/constraints.txt
	.venv-torch29/bin/python -m pip install --quiet --disable-pip-version-check torch==2.9.1 torch_xla==2.9.0
	.venv-torch29/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-torch29/constraints.txt -e '.[hlo,test]'
	touch $@

torch29: .venv-torch29/.installed
	.venv-torch29/bin/python -m pytest -n $(WORKERS) --dist worksteal

clean:
	rm -rf .venv .venv-torch29 out build *.egg-info
