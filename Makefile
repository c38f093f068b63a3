# Counterfoil. `make` alone lists what there is.

PYTHON ?= python3
PORT ?= 8000
PLAYS ?= 200,40
BIN := .venv/bin
CONTROL := test -x $(BIN)/python || { echo "There is no demo here yet (make demo)."; exit 1; }; \
	$(BIN)/python -m deploy.local.control
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.DEFAULT_GOAL := help
.PHONY: help demo demo-reset demo-stop-part demo-start-part test hard-cases money-machine lint types lock audit bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Everything on this machine: shop, staff pages, e-mails, offline Stripe (PORT=8000; Ctrl-C ends it)
	@$(PYTHON) deploy/local/bootstrap.py demo
	@$(BIN)/python -m deploy.local.supervisor --port $(PORT)

demo-reset: ## Erase the demo's data (not while it runs)
	@$(CONTROL) reset

demo-stop-part: ## Stop one part of the running demo and leave it stopped: ROLE=worker
	@$(CONTROL) stop $(ROLE)

demo-start-part: ## Start it again: ROLE=worker
	@$(CONTROL) start $(ROLE)

test: ## Style, types, import rules, Django's checks, then all tests (PYTEST_ARGS adds arguments)
	@$(PYTHON) deploy/local/bootstrap.py test
	@$(BIN)/python -m deploy.local.gate

hard-cases: ## What may go wrong, case by case, and the tests that show it (ARGS=F6, ARGS=--help)
	@$(PYTHON) deploy/local/bootstrap.py test
	@$(BIN)/python -m tests.hard_cases $(ARGS)

money-machine: ## Look for lost cents for as long as you like: PLAYS=200,40 plays and steps, PLAYS=200,40,7 from play 7
	@$(PYTHON) deploy/local/bootstrap.py test
	@MONEY_MACHINE=$(PLAYS) $(BIN)/python -m pytest tests/payments/test_money_machine.py -k very_long -s -q

lint: ## Style and import rules, correcting what can be corrected
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/lint-imports

types: ## Static types
	$(BIN)/mypy

lock: ## Compile pyproject.toml into the hashed lock files (needs uv)
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	sed -i.bak '/^ *#\( *via\)\{0,1\} *-c requirements.lock$$/d' requirements-dev.lock && rm requirements-dev.lock.bak

bench: ## Speed beside yardsticks measured in the same run, 4 minutes (ARGS=--full for the record, ARGS=--help)
	@$(PYTHON) deploy/local/bootstrap.py demo
	@$(BIN)/python -m deploy.bench $(ARGS)

audit: ## Known vulnerabilities in what production installs
	$(BIN)/pip-audit --require-hashes --disable-pip -r requirements.lock

clean: ## Remove caches and built files; keeps .venv and the demo's data
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis staticfiles
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
