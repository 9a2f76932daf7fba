# make demo        set up, and draw masks on the images in images/test
# make test        set up, and run all tests under Paddle 3
# make test-fast   the tests that take seconds
# make test-all    all tests, the soak included
# make test-paddle2  the same under Paddle 2.6.2, the version that paddlepaddle-gpu has on PyPI
# make soak        kill a training run and a submission 200 times each, in half an hour and more

PYTHON ?= python3

.PHONY: demo test test-fast test-all test-paddle2 soak

demo: .venv/ready
	.venv/bin/python demo.py

test: .venv/ready-to-test
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest

test-fast: .venv/ready-to-test
	.venv/bin/python -m pytest -m 'not slow and not soak'

test-all: test soak

test-paddle2: .venv-paddle2/ready-to-test
	.venv-paddle2/bin/python -m pytest

soak: .venv/ready-to-test
	.venv/bin/python -m pytest -m soak --capture=no

.venv/ready: requirements.txt requirements-common.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# The page of eval.py --report is tested in Chromium. Where there is none, root gets Debian's and others Playwright's;
# where neither can be had, those tests are left out, and say so.
BROWSER = command -v chromium || command -v chromium-browser || command -v google-chrome \
	|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq chromium; } \
	|| timeout 300 .venv/bin/playwright install chromium || true

# For the tests of 1_pytorch2paddle.py: PyTorch's build for the CPU, where its index can be reached.
TORCH = install --quiet --disable-pip-version-check --retries 0 torch==2.13.0 'setuptools<81' \
	--extra-index-url https://download.pytorch.org/whl/cpu || echo 'There is no PyTorch here: the tests that need it are left out'

.venv/ready-to-test: .venv/ready requirements-dev.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	.venv/bin/python -m pip $(TORCH)
	@{ $(BROWSER); } > .venv/browser.log 2>&1
	touch $@

# The GPU requirements with the CPU build of the same Paddle in place of the GPU's.
.venv-paddle2/ready-to-test: requirements-gpu.txt requirements-dev.txt
	$(PYTHON) -m venv .venv-paddle2
	sed 's/paddlepaddle-gpu/paddlepaddle/' requirements-gpu.txt > .venv-paddle2/requirements.txt
	.venv-paddle2/bin/python -m pip install --quiet --disable-pip-version-check \
		-r .venv-paddle2/requirements.txt -r requirements-dev.txt
	.venv-paddle2/bin/python -m pip $(TORCH)
	touch $@
