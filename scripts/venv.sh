#!/bin/sh
# Make the virtual environment that the Makefile uses:  PYTHON=python3 scripts/venv.sh .venv
set -eu

venv=$1
python=${PYTHON:-python3}

fail() {
    printf 'heorot: %s\n' "$@" >&2
    exit 1
}

command -v "$python" >/dev/null ||
    fail "there is no '$python' here." "Install Python 3.11 or newer (Debian, Ubuntu: apt-get install python3 python3-venv)," \
        "or name one: make PYTHON=/path/to/python3 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version 2>&1) is too old; Heorot needs Python 3.11 or newer." "Name one: make PYTHON=/path/to/python3 ..."
# Debian takes ensurepip out of its Python and puts it into python3-venv; `venv` alone can be imported and then fails.
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$("$python" --version 2>&1) cannot make a virtual environment: its modules venv and ensurepip are missing." \
        "On Debian and Ubuntu run (as root): apt-get install python3-venv" "Then run make again."

# What was complete once, of this very Python, is brought up to date; anything else starts over.
version='import sys; print(sys.version)'
if [ -e "$venv/.complete" ] && [ "$("$venv/bin/python" -c "$version" 2>&1)" = "$("$python" -c "$version")" ]; then
    echo "heorot: bringing $venv up to date" >&2
else
    rm -rf "$venv"
    echo "heorot: installing into $venv (once; about a minute of processor time, and 350 MB when it is done)" >&2
    "$python" -m venv "$venv"
fi
pip="$venv/bin/python -m pip -qq --no-input"
echo "heorot: - the $(grep -c '^[a-z].*==' constraints.txt) packages of constraints.txt, fetched and unpacked; pip says nothing meanwhile" >&2
$pip install --require-hashes --only-binary :all: -r constraints.txt ||
    fail "the packages of constraints.txt could not be installed; pip says above why." \
        "pip needs a package index: check the network, or PIP_INDEX_URL and pip's configuration."
# The build tools are in constraints.txt too, so that nothing is fetched without a hash.
echo "heorot: - Heorot itself, its manual pages and completions" >&2
$pip install --no-deps --no-build-isolation --editable .
"$venv/bin/python" scripts/share.py "$venv"
# pip drops the options of Python from the first lines of the commands. This also warns of a Python that others cannot run.
"$venv/bin/python" -m heorot.first_lines
# Users who may not write here would otherwise compile Heorot again at each start of a command.
"$venv/bin/python" -m compileall -q src
