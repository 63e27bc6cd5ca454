# `make demo` and `make test` do everything on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
# The oldest jax that workers support; requirements-newest.lock has the newest.
LOCK ?= requirements.lock
BIN := $(VENV)/bin

.PHONY: demo check test environments format fuzz lock protos clean

demo: $(VENV)/.installed  ## The main job: train a small language model on 2 hosts x 4 devices.
	$(BIN)/polypath run --hosts 2 --devices-per-host 4 examples/train_lm.py

check: $(VENV)/.installed  ## The inner loop, in a few minutes: format, lint, types, layers, unit tests.
	BIN=$(BIN) scripts/check fast

test: $(VENV)/.installed environments  ## Everything that guards main: all of `check`, and all tests.
	BIN=$(BIN) scripts/check

environments: $(VENV)/.installed  ## What tests need beside the environment itself: others, with other versions of JAX.
	$(BIN)/python tests/cluster/environments.py

format: $(VENV)/.installed  ## Put the code in order.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(VENV)/.installed  ## Fuzz the frontend and the transport for longer than `make test` does.
	$(BIN)/python tests/fuzz/fuzz_frontend.py -max_total_time=300
	$(BIN)/python tests/fuzz/fuzz_http2.py -max_total_time=300
	$(BIN)/python tests/fuzz/fuzz_transport.py -max_total_time=300

COMPILE = $(BIN)/uv pip compile -q --no-header --no-annotate --no-emit-index-url --no-emit-find-links --universal
EVERYTHING = --group dev --group third-party --group torch --all-extras --no-emit-package torch --generate-hashes

lock: $(VENV)/.installed  ## Pin all dependencies anew, for the oldest jax that workers support and for the newest.
	$(BIN)/pip install -q uv
	echo 'jax==0.10.2' | $(COMPILE) pyproject.toml $(EVERYTHING) -c - --python-version 3.11 -o requirements.lock
	$(COMPILE) pyproject.toml $(EVERYTHING) --python-version 3.12 -o requirements-newest.lock
	echo 'torch==2.13.0' | $(COMPILE) pyproject.toml --extra torch -c - --no-deps --python-version 3.11 \
	  | grep '^torch==' > requirements-torch.lock
	UV="$(COMPILE) --generate-hashes" $(BIN)/python tests/cluster/environments.py --lock

protos: $(VENV)/.installed  ## Generate the wire schema's Python from its .proto.
	$(BIN)/python src/polypath/frontend/wire/generate.py

clean:
	rm -rf $(VENV) out dist build

# PyTorch has a lock of its own, without hashes: which build of that version pip finds (for CUDA, with the packages of
# CUDA that this one names; for CPUs, with none) is the machine's affair.
$(VENV)/.installed: $(LOCK) requirements-torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Polypath needs Python 3.11 or newer and $(PYTHON) is older: give a newer one as PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing: install it (Debian: apt install python3-venv), then run make again."; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-torch.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@
