# The same verbs for people and for CI. Each makes what it needs; the environment is .venv, made again when
# settings.ini, setup.py or constraints.txt change.
PYTHON ?= python3
FLAGS ?=
JOBS ?= 2
DATA ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEPS := settings.ini setup.py constraints.txt
export PYTHONUNBUFFERED = 1

.DEFAULT_GOAL := help
.PHONY: help demo live test fuzz holes faults interrupts stranger long scale audit lab sweep bench bench-live export readme docs release pictures hooks pins clean

help: ## this list
	@echo "make VERB, where VERB is one of"
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14

demo: .venv/.runtime ## animate a still from a video; writes results/demo/
	$(BIN)/x2face demo

live: .venv/.live ## open the live studio in the browser: a portrait that moves as you do
	$(BIN)/x2face live

test: .venv/.dev ## run every notebook and every test, two at a time (JOBS=2; FLAGS=slow runs the slow cells too)
	@X2FACE_TEST_FLAGS="$(FLAGS)" $(BIN)/python -m pytest -n $(JOBS)

fuzz: .venv/.dev ## give every reader 20,000 damaged files (CASES=200000 for a night); writes results/fuzz.csv
	$(BIN)/python tests/fuzz.py $(or $(CASES),20000) results/fuzz.csv

holes: .venv/.dev ## try again every attack that once got through; writes results/holes.csv
	$(BIN)/python tests/holes.py results/holes.csv

faults: .venv/.dev ## kill, starve and double commands twenty times each; writes results/faults.csv
	$(BIN)/python tests/faults.py $(or $(CASES),20) results/faults.csv

interrupts: .venv/.dev ## press Ctrl-C at a hundred random points of a command; writes results/interrupts.csv
	$(BIN)/python tests/interrupts.py $(or $(CASES),100) results/interrupts.csv

stranger: .venv/.dev ## a stranger's five minutes, from the wheel to a saved file; writes results/stranger/
	$(BIN)/python tools/stranger.py results/stranger

long: .venv/.dev ## animate an hour of video and watch memory and sound; writes results/speed/long/
	@mkdir -p results/speed/long
	$(BIN)/papermill nbs/experiments/long.ipynb results/speed/long/long.ipynb -p results results/speed/long -p minutes 60 -p shorter 1,5,10

scale: .venv/.dev ## what many tracks and two workers cost, and a plan for a million; writes results/speed/scale/ and voxceleb2/
	@mkdir -p results/speed/scale results/speed/voxceleb2
	$(BIN)/papermill nbs/experiments/scale.ipynb results/speed/scale/scale.ipynb -p results results/speed/scale -p counts "10 100 1000 10000 100000" -p videos 8
	$(BIN)/papermill nbs/experiments/voxceleb2.ipynb results/speed/voxceleb2/voxceleb2.ipynb -p results results/speed/voxceleb2 -p film 4

audit: .venv/.python ## look for known vulnerabilities of the pins; writes build/sbom.json
	@"$(PYTHON)" -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom
	@mkdir -p build && .venv/audit/bin/cyclonedx-py requirements constraints.txt --of JSON -o build/sbom.json
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

lab: .venv/.dev ## open the notebooks in JupyterLab, on this machine only
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs/index.ipynb --ServerApp.ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root)

VARIANTS := unet_l1 unet_l1+ms-ssim unet_mix unet3plus-macs_l1 unet3plus-macs_mix
SWEEP := results/$(if $(DATA),study/ablation,sweep)
STUDY := $(if $(DATA),-p data "$(DATA)" -p seeds 3 -p steps 800 -p batch_size 16 -p every 20 -p variants "")
LARGER := -p data "$(DATA)" -p seeds 3 -p steps 300 -p batch_size 16 -p frame_size 128 -p mesh True -p every 40 -p variants "$(VARIANTS)"
define STUDIED
	@mkdir -p $(1)
	$(BIN)/papermill nbs/experiments/ablation.ipynb $(1)/ablation.ipynb -p results $(1) $(2)
	$(BIN)/papermill nbs/experiments/report.ipynb $(1)/report.ipynb -p results $(1) -p tables $(1)
endef
sweep: .venv/.dev ## train and compare backbones and losses: on sample films, or DATA=FOLDER for a night
	$(call STUDIED,$(SWEEP),$(STUDY))
	$(if $(DATA),$(call STUDIED,results/study/larger,$(LARGER)))
	@echo "The report is $(SWEEP)/report.ipynb"

bench: .venv/.dev bench-live ## measure this machine; writes results/speed/benchmark/, results/speed/engines/ and results/speed/live/
	@mkdir -p results/speed/benchmark results/speed/engines
	$(BIN)/papermill nbs/experiments/benchmark.ipynb results/speed/benchmark/benchmark.ipynb -p results results/speed/benchmark -p repeats 60
	$(BIN)/papermill nbs/experiments/peers.ipynb results/speed/benchmark/peers.ipynb -p results results/speed/benchmark -p repeats 3 -p curves True
	$(BIN)/papermill nbs/experiments/engines.ipynb results/speed/engines/engines.ipynb -p results results/speed/engines -p repeats 60 -p presets "live paper" -p compiled True

bench-live: .venv/.dev ## measure the live studio in a browser, five minutes; writes results/speed/live/
	@mkdir -p results/speed/live
	$(BIN)/papermill nbs/experiments/live.ipynb results/speed/live/live.ipynb -p results results/speed/live

export: .venv/.dev ## write x2face_nb/ from the notebooks
	$(BIN)/nbdev_export

readme: .venv/.dev ## write README.md and results/README.md from their notebooks, ARCHITECTURE.md from the imports
	$(BIN)/python tools/house.py readme

docs: .venv/.dev ## build the documentation site in _docs/; links are checked
	$(BIN)/python tools/docsite.py

NOTEBOOK = $(BIN)/papermill nbs/experiments/$(1).ipynb results/release/$(2)/$(1).ipynb -p data "$(DATA)" -p results results/release/$(2)
release: .venv/.dev ## after new weights, DATA=FOLDER: maps, gallery, evaluations, card, pictures; an hour
	$(BIN)/x2face fit-control "$(DATA)" --force
	$(BIN)/python tools/gallery.py
	$(BIN)/python tests/test_render.py
	$(call NOTEBOOK,evaluate,val) -p split val -p every 20
	$(call NOTEBOOK,evaluate,test) -p split test -p every 10
	$(call NOTEBOOK,motion,val) -p split val -p every 10
	$(call NOTEBOOK,motion,test) -p split test -p every 10
	$(call NOTEBOOK,trust,val) -p every 40
	$(call NOTEBOOK,control,control) -p fit False -p sources 6
	$(call NOTEBOOK,audio,control)
	$(BIN)/papermill nbs/experiments/release.ipynb - -p write True > /dev/null
	cd nbs/experiments && ../../$(BIN)/jupyter nbconvert --to notebook --execute --inplace release.ipynb summary.ipynb ../index.ipynb
	$(MAKE) readme pictures

pictures: .venv/.dev ## make the films of README and lessons and the pictures of the demos again, with the packaged weights
	$(BIN)/python tools/pictures.py
	$(BIN)/python tools/browser.py

hooks: .venv/.dev ## check notebooks before each commit in this clone (git config core.hooksPath)
	git config --local core.hooksPath .githooks

pins: .venv/.dev ## write constraints.txt and environment.yml from what is installed in .venv
	$(BIN)/python tools/house.py pins

clean: ## remove the environment, builds and caches
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.venv/.python:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "x2face_nb needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1); name another: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.runtime: .venv/.python $(DEPS)
	@echo "Installing what the demo needs into .venv (some minutes)"
	$(PIP) -e .
	@tools/check_opencv $(BIN)/python
	@touch $@

.venv/.live: .venv/.runtime
	@echo "Installing what the studios need into .venv"
	$(PIP) -e '.[live]'
	@touch $@

# The browser tests want Chromium. As root it is installed; else they are skipped where it is missing, in one line each.
.venv/.dev: .venv/.live
	@echo "Installing what the tests and notebooks need into .venv"
	$(PIP) -e '.[dev]'
	@command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing Chromium for the browser tests" && apt-get update -qq >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo "There is no Chromium, so the browser tests will be skipped; apt-get install chromium, or .venv/bin/playwright install chromium, brings one"
	@touch $@
