# `make demo` and `make test` do everything on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check format fuzz conformance lock protos clean

demo: $(VENV)/.installed  ## The main job: train a small language model on 2 hosts x 4 devices.
	$(BIN)/polypath run --hosts 2 --devices-per-host 4 examples/train_lm.py

test: $(VENV)/.installed  ## Everything that guards main: format, lint, types, layers, tests.
	BIN=$(BIN) scripts/check

format: $(VENV)/.installed  ## Put the code in order.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(VENV)/.installed  ## Fuzz the frontend and the transport for longer than `make test` does.
	$(BIN)/python tests/fuzz/fuzz_frontend.py -max_total_time=300
	$(BIN)/python tests/fuzz/fuzz_http2.py -max_total_time=300
	$(BIN)/python tests/fuzz/fuzz_transport.py -max_total_time=300

lock: $(VENV)/.installed  ## Pin all dependencies anew.
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --group dev --group third-party --group torch --all-extras --no-emit-package torch \
	  --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra torch --no-deps --universal --python-version 3.11 --no-header \
	  --no-annotate | grep '^torch==' > requirements-torch.lock

protos: $(VENV)/.installed  ## Generate the wire schema's Python from its .proto.
	$(BIN)/python -m polypath.frontend.wire.generate

clean:
	rm -rf $(VENV) out dist build

# PyTorch has a lock of its own, without hashes: which build of that version pip finds (for CUDA, with the packages of
# CUDA that this one names; for CPUs, with none) is the machine's affair.
$(VENV)/.installed: requirements.lock requirements-torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Polypath needs Python 3.11 or newer and $(PYTHON) is older: give a newer one as PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing: install it (Debian: apt install python3-venv), then run make again."; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-torch.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@
