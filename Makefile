# Every target first makes the environment (.venv) it needs; once that is done it costs 0.1 s.
# Another Python: make PYTHON=python3.12 setup. An active virtual environment is used as it is.

PYTHON ?= python3
ENVIRONMENT := $(or $(VIRTUAL_ENV),.venv)
BIN := $(ENVIRONMENT)/bin
SET_UP := @$(PYTHON) scripts/set_up.py --extras
DEVELOP := dev,cpu,offline,serve,qdrant,llm,commonroad,traffic,nuplan,transport
# One thread a process: the tests' arrays are tiny, and two processes use two cores better.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

.DEFAULT_GOAL := help
.PHONY: help setup format check test smoke golden demo demo-driving serve clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with everything that development needs, and check it
	$(SET_UP) $(DEVELOP) --force

format: ## format the code
	$(SET_UP) $(DEVELOP)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

check: ## lint, check types and the direction of imports
	$(SET_UP) $(DEVELOP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pyright
	$(BIN)/lint-imports --no-logo

test: ## run the tests (make test WORKERS=1 TESTS=tests/recsys for some of them)
	$(SET_UP) $(DEVELOP)
	$(PYTEST) -n $(WORKERS) $(TESTS)

smoke: ## run both whole paths once, on a tiny simulated town and a little simulated traffic
	$(SET_UP) cpu,offline,traffic
	$(PYTHON) scripts/demo_driving.py --tiny --fresh --out runs/smoke-driving --bin $(BIN)
	$(PYTHON) scripts/demo.py --tiny --fresh --out runs/smoke --bin $(BIN)

golden: ## write the stored results of the golden tests anew (say why in the commit)
	$(SET_UP) $(DEVELOP)
	$(PYTEST) tests/golden --write-golden

demo: ## run the whole path and print a report (make demo REVIEWS=reviews.json.gz for real reviews)
	$(SET_UP) cpu,offline
	$(PYTHON) scripts/demo.py --bin $(BIN) $(if $(REVIEWS),--reviews "$(REVIEWS)")

demo-driving: ## simulated traffic to a driving report (make demo-driving LOGS=folder for real logs)
	$(SET_UP) cpu,traffic,commonroad,nuplan
	$(PYTHON) scripts/demo_driving.py --bin $(BIN) $(if $(LOGS),--logs "$(LOGS)") $(if $(STYLEDRIVE),--styledrive "$(STYLEDRIVE)")

serve: ## answer over HTTP and show the page to steer by hand (ONLY=recommendations or driving)
	$(SET_UP) cpu,offline,serve,traffic,commonroad,nuplan
	$(PYTHON) scripts/serve.py --bin $(BIN) $(if $(ONLY),--only "$(ONLY)") $(if $(PORT),--port "$(PORT)")

clean: ## delete runs, caches and the environment that setup made
	rm -rf runs .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
