# Everything a developer runs. Each target makes .venv itself; Python 3.11 and make are enough.
# A second run does nothing until requirements.lock or pyproject.toml changes.
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
# Of model folders, the one with the highest accuracy; of equals, the one with the lowest log loss.
BETTER := import json, sys; \
	found = {m: json.load(open(m + "_test/metrics.json")) for m in sys.argv[1:]}; \
	print(max(found, key=lambda m: (found[m]["accuracy"], -found[m]["log_loss"])))

# Ray starts a dozen processes, and each would compile all it imports (5 s): let them keep it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-shared lint bench lock clean

help:
	@echo "make setup   install the locked versions into .venv"
	@echo "make demo    make 80 small clips, extract, train and judge two models, label new clips by the better, show all on a page"
	@echo "make test    lint, types and tests"
	@echo "make test-fast   the quick tests, without Ray: what to run between two edits"
	@echo "make test-shared   the tests over ../shared/data only"
	@echo "make lint    format and lint, fixing what can be fixed"
	@echo "make bench   the benchmarks, and how to run each"
	@echo "make lock    resolve pyproject.toml into requirements.lock again"
	@echo "make clean   remove .venv, caches and the demo's output"

setup: $(READY)

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vidray needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# uv does not read pip's settings: where only pip knows the way to the packages, pip installs them.
# --no-build-isolation: the package is built by the locked setuptools, nothing is fetched unhashed.
$(READY): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# The clips are made once: a second demo finds them unchanged. No model has seen those of "new".
$(DEMO)/.videos: vidray/video/synthetic.py | $(READY)
	$(BIN)/python -m vidray.video.synthetic $(DEMO)/videos --clips-per-class 20
	$(BIN)/python -m vidray.video.synthetic $(DEMO)/new --clips-per-class 3 --seed 1
	@touch $@

demo: $(DEMO)/.videos
	$(BIN)/python jobs/extract.py --videos $(DEMO)/videos --out $(DEMO)/features --split-fractions 0.6 0.2 0.2 --show 3
	$(BIN)/python jobs/train.py --data $(DEMO)/features --model extra_trees --out $(DEMO)/extra_trees --folds 0
	$(BIN)/python jobs/clips.py --videos $(DEMO)/videos --out $(DEMO)/clips --split-fractions 0.6 0.2 0.2 \
		--clips-per-video 4 --clip-seconds 1 --frames-per-clip 11 --size-px 32
	$(BIN)/python jobs/train.py --data $(DEMO)/clips --model two_stream_late --out $(DEMO)/two_stream_late --epochs 8
	for model in extra_trees:features two_stream_late:clips; do \
		$(BIN)/python jobs/evaluate.py --model $(DEMO)/$${model%:*} --data $(DEMO)/$${model#*:} \
			--out $(DEMO)/$${model%:*}_test --overwrite || exit 1; \
	done
	better=$$($(BIN)/python -c '$(BETTER)' $(DEMO)/extra_trees $(DEMO)/two_stream_late) && \
	echo "the better one on split test: $$better" && \
	for night in 1 2; do \
		$(BIN)/python jobs/label.py --model $$better --videos $(DEMO)/new --out $(DEMO)/labels || exit 1; \
	done
	$(BIN)/python jobs/report.py --runs $(DEMO) --out $(DEMO)/report.html

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --no-loadscope-reorder

# Nothing that starts Ray, another process or a long training: what to run between two edits.
test-fast: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

# What "make test" leaves out in a clone with no ../shared beside it.
test-shared: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m shared

lint: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Benchmarks take minutes each and want a quiet machine, so they are listed, not run.
bench: $(READY)
	@for script in $(wildcard bench/*.py); do \
		sed -n '1s/^"""\(.*\)/\1/p' "$$script"; echo "    $(BIN)/python $$script"; \
	done

# Versions already locked are kept where they still fit; --upgrade (make lock UPGRADE=--upgrade) renews them.
lock: | $(BIN)/uv
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
		--no-header --no-annotate \
		--extra dev --extra cluster --extra decord --extra enhance --extra tensorboard --extra transformers --extra lite --extra umap --extra export --extra prune $(UPGRADE) pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
		--no-header --no-annotate --constraints requirements.lock \
		--extra cluster --extra decord --extra enhance --extra openvino --extra onnx pyproject.toml -o cluster/requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist *.egg-info $(DEMO)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
