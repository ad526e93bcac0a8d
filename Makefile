# Two commands: `make run` shows what mipp does, `make test` checks it. Each sets .venv up once.
PYTHON ?= python3
BIN := .venv/bin
ENV := PATH="$(CURDIR)/$(BIN):$$PATH" DO_NOT_TRACK=1 PREFECT_SERVER_LOGGING_LEVEL=CRITICAL \
       PREFECT_LOGGING_SERVER_LEVEL=CRITICAL MLFLOW_DISABLE_TELEMETRY=true \
       PYTHONDONTWRITEBYTECODE=

.PHONY: run test slow faults lint docs examples repro ratios evidence clean server stop

run: .venv/.ready  ## the main job: LeNet-5 on the embedded digits, as a Prefect flow
	$(ENV) python -m flows.pipeline --config params.yaml

test: .venv/.ready  ## the default tests
	$(ENV) OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadgroup

slow: .venv/.ready  ## the tests that take longer or need data that is not embedded
	$(ENV) python -m pytest -q -m slow

faults: .venv/.ready  ## faults at every write, damage to every file, hostile input; 20 minutes
	$(ENV) OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadgroup -m "not gpu" tests/faults

lint: .venv/.ready  ## style and types
	$(ENV) ruff check .
	$(ENV) ruff format --check .
	$(ENV) mypy

examples: .venv/.ready  ## the notebook, the scripts and the code of the tutorials, run as they stand
	$(ENV) OMP_NUM_THREADS=1 python -m pytest -q -m slow tests/documentation

docs: .venv/.ready  ## the documentation as pages, in site/
	$(ENV) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet

evidence: .venv/.ready  ## docs/evidence.md from the tables in experiments/results
	$(ENV) python -m benchmarks pages evidence

repro: .venv/.ready  ## the same stages as a DVC pipeline
	$(ENV) dvc repro

ratios: .venv/.ready  ## three pruning ratios side by side under DVC, tracked in MLflow
	mkdir -p ratios && cp experiments/ratios.dvc.yaml ratios/dvc.yaml
	$(ENV) dvc repro --pipeline dvc.yaml
	$(ENV) dvc repro ratios/dvc.yaml

server: .venv/.ready  ## Prefect's server, pool and worker, and MLflow's pages, on this machine
	$(ENV) python -m flows.server start --config params.yaml

stop:  ## just what `make server` started
	$(ENV) python -m flows.server stop

clean:  ## forget results, keep the environment
	rm -rf work runs

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[flows,dev]'
	touch $@
