# make demo   a sample archive of slides through the whole path, to a trained encoder and two pages to look at
# make test   the fast tests          make test-all   every test, the slow ones too
# make gpu    all that is to be known of an NVIDIA GPU: tests, sanitizers, benchmarks, and the tables
# make test-gpu   the first two of these
# make lint   style, types, floors, site      make docs   the site, into build/site
# make damage   damages every kind of file and draws inputs for every parser
# make chaos  kills, errors of the system and runs at once over every command that writes; chaos-load: memory
# make tutorials   runs the code of the site's tutorials      make bench   the benchmarks
#
# Each sets up its own virtual environment first. CUDA=12 takes the CUDA 12 wheels.
PYTHON ?= python3
CUDA ?= 13
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
# The tested versions are those of CUDA 13; torch's newest wheels do not go with CUDA 12's other packages
CONSTRAINTS := $(if $(filter 13,$(CUDA)),-c constraints.txt)
INPUTS := pyproject.toml constraints.txt
INSTALLED := $(VENV)/.installed-$(shell (cat $(INPUTS); echo $(CURDIR) $(CUDA)) | sha256sum | cut -c1-16)

# One more than cores, at most four: many tests wait for processes that they have started
PROCESSES := $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))

.PHONY: install demo test test-all gpu test-gpu chaos chaos-load damage tutorials lint docs bench
install: $(INSTALLED)

$(INSTALLED): $(INPUTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit("Python 3.11 to 3.13 is needed, this is %d.%d: make PYTHON=python3.12" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 7 GB of wheels the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[cuda$(CUDA),test,lint]'
	@rm -f $(VENV)/.installed-*
	@touch $@

# Everything that the demo makes is under $(DEMO)/; run again, each step goes on where it was
demo: install
	$(BIN)/pathprep synth $(DEMO)/slides --slides 4 --size 6144
	$(BIN)/pathprep shard $(DEMO)/slides --out $(DEMO)/dataset
	$(BIN)/pathprep verify $(DEMO)/dataset
	$(BIN)/pathprep report $(DEMO)/dataset
	$(BIN)/pathtrain pretrain $(DEMO)/dataset --recipe smoke --out $(DEMO)/run
	$(BIN)/pathtrain export $(DEMO)/run --out $(DEMO)/model
	$(BIN)/pathtrain embed $(DEMO)/model $(DEMO)/dataset --out $(DEMO)/features
	$(BIN)/pathtrain evaluate knn $(DEMO)/run --train $(DEMO)/dataset --labels $(DEMO)/slides/truth
	$(BIN)/pathtrain evaluate collapse $(DEMO)/run $(DEMO)/dataset --tsne-tiles 100
	$(BIN)/pathtrain report $(DEMO)/run
	@echo
	@echo "The dataset: $(abspath $(DEMO))/dataset/report.html"
	@echo "The encoder: $(abspath $(DEMO))/run/report.html, exported to $(DEMO)/model, features in $(DEMO)/features"

test: install
	$(BIN)/python -m pytest -n $(PROCESSES) -m "not slow and not gpu and not chaos"

test-all: install
	$(BIN)/python -m pytest -m "not gpu and not chaos"

# Without a GPU every one of these tests would be skipped. compute-sanitizer comes with the CUDA toolkit
test-gpu: install
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("make test-gpu: torch finds no NVIDIA GPU that it can use, so nothing would be tested")'
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python bench/sanitize.py --json

# Some parts again: make gpu GPU='--only tests slide'; all of them tiny on the CPU: make gpu GPU=--rehearse
gpu: install
	$(BIN)/python bench/gpu/run.py $(GPU)

# What is wrong is printed, and the exit code tells; a few commands: make chaos CHAOS='--only export --kills 100'
chaos: install
	PYTHONPATH=.:tests $(BIN)/python -m chaos --json $(CHAOS)

# Damaged files of every kind, drawn inputs for every parser, slides, resolutions, and attacks: some 27,000 cases
damage: install
	$(BIN)/python bench/bench_damage.py all --json
	$(BIN)/python -m pytest -m chaos tests/corruption/test_paths.py tests/corruption/test_bombs.py

# Memory, open files and pace with many slides and with one of many tiles
chaos-load: install
	PYTHONPATH=.:tests $(BIN)/python -m chaos.load --json $(CHAOS)

tutorials: install
	$(BIN)/python -m pytest -m slow tests/docs

lint: install docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy -p pathprep -p pathtrain

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# On real tiles: SLIDES, a folder of .tif slides for Macenko, and SLIDE, a slide for tiling; else they are drawn
bench: install
	$(BIN)/python bench/bench_macenko.py $(if $(SLIDES),--data '$(SLIDES)') --json
	$(BIN)/python bench/bench_tiling.py $(if $(SLIDE),--data '$(SLIDE)') --json
	$(BIN)/python bench/bench_shard.py --size 40000 --json
	$(BIN)/python bench/bench_loader.py --json
	$(BIN)/python bench/bench_train.py --json
	$(BIN)/python bench/bench_index.py --json
	$(BIN)/python bench/bench_mix.py --json
	$(BIN)/python bench/bench_slide_memory.py --json
