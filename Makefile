VENV ?= .venv
PY = $(VENV)/bin/python

.PHONY: demo test test-fast lint docs clean

demo:  ## search, slim and retrain on real images, against uniform scaling; about five minutes on two cores
	@bash tools/setup_env.sh demo $(VENV)
	@$(PY) tools/demo.py

test:  ## everything CI runs
	@bash tools/setup_env.sh test $(VENV)
	@$(MAKE) --no-print-directory lint
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests -q -n 2 --dist loadfile --durations=10

test-fast:
	@bash tools/setup_env.sh test $(VENV)
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests -q -n 2 --dist loadfile -m "not slow"

lint:
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

docs:
	@bash tools/setup_env.sh test $(VENV)
	@$(PY) -m pip install -q -r requirements/docs.txt
	@$(PY) -m sphinx -b html -W docs docs/_build

clean:
	rm -rf work_dirs docs/_build
