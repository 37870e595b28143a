# The commands of this project. `make` lists them; each sets up what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
ARGS ?=

.PHONY: help run test lint format docs demo chaos bench bench-quick bench-continuity soak hunt fuzz autobahn clients audit lock clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# The stamps record which lock a .venv was made from: a changed lock is installed again, an unchanged one costs nothing.
$(VENV)/.run: locks/run.txt locks/speed.txt pyproject.toml
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r locks/run.txt
	@$(PIP) -r locks/speed.txt || echo "uvloop does not install here: running on plain asyncio"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: locks/dev.txt $(VENV)/.run
	@$(PIP) -r locks/dev.txt
	@touch $@

run: $(VENV)/.run  ## start the service on port 7860 (ARGS="--help" shows the options)
	@exec $(BIN)/python -m stream_server $(ARGS)

demo: $(VENV)/.run  ## run the whole service on a recorded tape: make demo TAPE=FILE [SPEED=1]
	@test -n "$(TAPE)" || { echo 'usage: make demo TAPE=FILE [SPEED=1]   (record one: make run ARGS="--record FILE")'; exit 2; }
	@exec $(BIN)/python -m stream_server --tape "$(TAPE)" --speed "$(or $(SPEED),1)" $(ARGS)

lint: $(VENV)/.dev  ## check format, lint, types and dead code, as CI does
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/vulture
	@$(BIN)/mypy

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.run  ## write .env.example and the table of settings in docs/operations.md
	@$(BIN)/python -m stream_server.settings.printed

# Types and dead code are checked beside the tests, which take longer, and reported after them. Tests wait for sockets and
# processes a third of their time, so two cores have three workers.
test: $(VENV)/.dev  ## run every check: lint, types and the whole suite
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@{ $(BIN)/vulture && $(BIN)/mypy; } >$(VENV)/lint.txt 2>&1 & lint=$$!; \
		$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS); tests=$$?; \
		wait $$lint; lint=$$?; cat $(VENV)/lint.txt; exit $$((tests + lint))

chaos: $(VENV)/.dev  ## run the whole service under seeded faults: make chaos [SEEDS=20] (ARGS="--seed 17 -v" for one)
	@$(BIN)/python -m tests.chaos --seeds "$(or $(SEEDS),20)" $(ARGS)

bench: $(VENV)/.dev  ## measure delivery beside other servers and write docs/benchmarks
	@$(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.dev  ## run the main scenarios of the benchmark in under two minutes
	@$(BIN)/python -m bench --quick $(ARGS)

bench-continuity: $(VENV)/.dev  ## compare continuity under faults with other libraries and write docs/benchmarks/continuity.md
	@$(BIN)/python -m bench.continuity $(ARGS)

MINUTES ?=
soak: $(VENV)/.dev  ## run the service under faults and many clients: make soak [MINUTES=30] [ARGS="--seed 1"]
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30) $(ARGS)

hunt: $(VENV)/.dev  ## run random programs against the hub: make hunt [MINUTES=5] [ARGS="--seed 1" or ARGS=--mutants]
	@$(BIN)/python -m tests.hunt --minutes $(or $(MINUTES),5) $(ARGS)

# Not in the locks: atheris has builds for few machines, and without it Hypothesis searches instead.
fuzz: $(VENV)/.dev  ## fuzz the parsers of untrusted input: make fuzz [MINUTES=5] [ARGS="rss frames"]
	@test -d $(VENV)/fuzz || $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
		--target $(VENV)/fuzz atheris==3.0.0 || echo "atheris does not install here: using Hypothesis"
	@PYTHONPATH=$(VENV)/fuzz $(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),5) $(ARGS)

# The suite needs Python 2.7, whose pip does not support lock files. It is installed into a folder of its own.
PYTHON2 ?= python2.7
autobahn: $(VENV)/.dev  ## run the Autobahn test suite on /ws (needs Python 2.7)
	@$(PYTHON2) -c '' 2>/dev/null || { echo "a Python 2.7 is needed: make autobahn PYTHON2=/path/to/python2.7"; exit 2; }
	@test -x $(VENV)/autobahn/bin/wstest || PYTHONUSERBASE=$(CURDIR)/$(VENV)/autobahn $(PYTHON2) -m pip install \
		--quiet --user --no-warn-script-location --disable-pip-version-check autobahntestsuite==25.10.1
	@PYTHONUSERBASE=$(CURDIR)/$(VENV)/autobahn $(BIN)/python -m tests.autobahn $(VENV)/autobahn/bin/wstest $(ARGS)

# Not in the locks: it also needs node, ruby with typhoeus, and Java. Each generator is installed into its own folder.
CLIENTS := $(VENV)/clients
clients: $(VENV)/.dev  ## generate clients in three languages and make three calls with each (needs node, ruby, Java)
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check \
		openapi-python-client==0.29.1 openapi-generator-cli==7.26.0
	@test -d $(CLIENTS)/node_modules || npm install --silent --no-save --prefix $(CLIENTS) \
		oazapfts@7.5.0 @oazapfts/runtime@1.2.0 typescript@5.9.3 @types/node@20
	@$(BIN)/python -m tests.generators $(CLIENTS)

audit:  ## check the locked packages for known vulnerabilities
	@PYTHON=$(PYTHON) locks/audit $(ARGS)

lock:  ## write the lock files (needs uv)
	@locks/update

clean:  ## remove everything that was set up
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
