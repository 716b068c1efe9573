# corpusmill from a checkout. Python 3.11 or newer and make are all that this file needs.

PYTHON ?= python3
VENV ?= .venv
# Processes that `make test` runs tests in.
JOBS ?= 2
# PyTorch, and the index that has builds for this machine's hardware. For a GPU:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
PACKAGES := cli pipeline schemas train
START := $(shell date +%s)
# Measured on Linux x86-64 in December 2026: some 550 MB of packages become 2,530 MB.
DOWNLOAD_MB := 550
NEEDED_MB := 4000

# `ready` keeps which PyTorch was asked for: another one than that is installed over it.
ASKED := $(strip $(TORCH) $(TORCH_INDEX))
ifneq ($(ASKED),$(strip $(shell cat $(VENV)/ready 2> /dev/null)))
.PHONY: $(VENV)/ready
REINSTALL := $(if $(wildcard $(VENV)/ready),--force-reinstall)
endif
# Fails for a CUDA build, before the gigabytes that it needs are fetched. Builds for other systems name them too.
NO_CUDA := import sys; from importlib.metadata import requires; \
	from pip._vendor.packaging.requirements import Requirement; \
	needs = [Requirement(line) for line in requires("torch") or []]; \
	needs = [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]; \
	sys.exit(any(name.startswith(("cuda-", "nvidia-", "triton")) for name in needs))

.PHONY: help setup demo test test-all lint bench clean
.DEFAULT_GOAL := help

## help      this list
help:
	@echo "make TARGET [PYTHON=python3.12] [VENV=.venv] [JOBS=2] [TORCH=torch==2.13.0] [TORCH_INDEX=URL]"
	@sed -n 's/^## /  /p' $(MAKEFILE_LIST)

## setup     an environment in .venv with all that the other targets need
setup: $(VENV)/ready

## demo      from raw dumps to a dataset, a trained model and its text, on the data of recipes/demo
demo: setup
	@start=$$(date +%s) && rm -rf demo-run/model && \
	$(BIN)/corpusmill run recipes/demo.yaml --out demo-run && \
	$(BIN)/corpusmill inspect demo-run/dataset --samples 1 && \
	$(BIN)/corpusmill train --config recipes/train/demo.yaml --data demo-run/dataset --out demo-run/model && \
	$(BIN)/corpusmill generate --checkpoint demo-run/model --max-new-tokens 60 \
		"The administrator of the system" "In the nineteenth century, the" "在安装过程中，" "如果您需要使用" && \
	echo && \
	echo "demo: $$(($$(date +%s) - start)) seconds; the dataset is demo-run/dataset, the model demo-run/model"

## test      the tests, without the slow ones
test: setup
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

## test-all  all tests: kills, scale and every runner too
test-all: setup
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m ""

## lint      style, format and types
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## bench     our claims as numbers; say more with: make bench ARGS="--help"
bench: setup
	PATH="$(abspath $(BIN)):$$PATH" bench/run $(ARGS)

## clean     remove what demo, build and test tools left behind; the environment stays
clean:
	rm -rf demo-run build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests bench recipes -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch goes first and alone, so that the packages after it keep its build; a machine that does not reach the index
# goes on with what its registry has, and an empty index asks for just that. `ready` marks an environment that is
# complete (empty: one whose PyTorch is being replaced), `unfinished` one of ours that is not: an interrupted setup
# starts anew. Any other environment is used as it is, and a folder that is none is left alone.
$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
		echo "setup: needs Python 3.11 or newer, and '$(PYTHON)' is not: make setup PYTHON=python3.12"; exit 1; }
	@if [ -e $(VENV)/unfinished ] || ! $(BIN)/python -m pip -V > /dev/null 2>&1; then $(MAKE) -s $(VENV)/unfinished; fi
	@echo "setup: fetching up to $(DOWNLOAD_MB) MB of packages (Beam, Arrow, PyTorch, the tools of the tests)"
	$(if $(REINSTALL),@: > $@)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --timeout 15 --retries 1 $(REINSTALL) \
		$(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') '$(TORCH)'
	@case '$(TORCH_INDEX)' in */cpu | */cpu/) $(BIN)/python -c '$(NO_CUDA)' || { \
		echo "setup: a CUDA build of PyTorch came in, for $(TORCH_INDEX) was not reached: try again with it in reach,"; \
		echo "or ask for CUDA: make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130"; exit 1; };; esac
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@mkdir -p .types/corpusmill
	@for package in $(PACKAGES); do ln -sfn ../../$$package .types/corpusmill/$$package || exit 1; done
	@rm -f $(VENV)/unfinished
	@echo '$(ASKED)' > $@
	@echo "setup: $(VENV) is $$(du -sm $(VENV) | cut -f 1) MB, done in $$(($$(date +%s) - $(START))) seconds"

.PHONY: $(VENV)/unfinished
$(VENV)/unfinished:
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "setup: $(PYTHON) cannot make environments; on Debian and Ubuntu: sudo apt install python3-venv"; \
		exit 1; }
	@if [ -n "$$(ls -A $(VENV) 2> /dev/null)" ] && [ ! -e $@ ] && [ ! -e $(VENV)/pyvenv.cfg ]; then \
		echo "setup: $(VENV) is a folder of something else; name another one: make setup VENV=…"; exit 1; fi
	@rm -rf $(VENV) && mkdir -p $(VENV) && touch $@
	@free=$$(df -Pm $(VENV) | awk 'END { print $$4 }'); if [ "$$free" -lt $(NEEDED_MB) ]; then \
		echo "setup: needs $(NEEDED_MB) MB, $(VENV) has $$free MB left; name another place: make setup VENV=…"; \
		exit 1; fi
	@$(PYTHON) -m venv $(VENV)
