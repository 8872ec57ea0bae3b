# make demo   set everything up and serve the app on http://localhost:7860 (PORT=... for another port)
# make test   set everything up and run linter, type checker and every test
# make lint   linter and type checker alone
# make nano   train the embedded demonstration model again, into assets/nano
# make clean  remove the environment and everything that was built
#
# Only python3 (3.10 to 3.12) with venv is needed beforehand. Stamp files inside $(VENV) remember what is installed, so
# that a second run starts at once.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 7860
TORCH ?= 2.13.0
SCALE ?= 1.0
NANO_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --prefer-binary -qq
RUNTIME := $(VENV)/.runtime-$(TORCH)
DEV := $(VENV)/.dev-$(TORCH)

.PHONY: demo test lint browser nano clean

demo: $(RUNTIME)
	PORT=$(PORT) $(BIN)/python app.py

test: lint browser
	$(BIN)/python -m pytest -m ""

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

nano: $(RUNTIME)
	$(BIN)/python -m unipixel train nano --scale $(SCALE) $(NANO_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first and is named again beside the rest: then sam2 builds against the installed torch, in seconds and
# without a download of its own, and nothing on the list can exchange it. We use none of sam2's CUDA code. The package
# itself is linked into the environment, so that scripts anywhere find it.
$(RUNTIME): requirements.txt | $(BIN)/python
	@echo "Installing what the app needs (a few minutes the first time) ..."
	$(PIP) "torch==$(TORCH)" setuptools wheel
	SAM2_BUILD_CUDA=0 $(PIP) --no-build-isolation "torch==$(TORCH)" -r requirements.txt
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

# The extras are there too, so that nothing goes untested for want of a package.
DEV_LISTS := requirements-dev.txt requirements-train.txt requirements-quantize.txt requirements-mcp.txt
$(DEV): $(DEV_LISTS) $(RUNTIME)
	$(PIP) $(DEV_LISTS:%=-r %)
	@touch $@

# The browser test wants a Chromium of the system. Without one, and without the right to install it, that test is skipped.
browser:
	@sh .ci/install_chromium
