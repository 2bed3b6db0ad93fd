#!/bin/sh
# Install what a target of the Makefile needs, and nothing twice:  PYTHON=python3 scripts/setup.sh {run|test} .venv
# or packages of Debian, and nothing else:                         scripts/setup.sh packages PACKAGE...
#
# run: Python's packages, into the virtual environment. test: the programs that the tests start, too.
# As root on Debian or Ubuntu, what the system lacks is installed with apt-get; else the line to type is said.
set -eu
cd "$(dirname "$0")/.."

purpose=$1
shift
[ "$purpose" = packages ] || venv=${1:-.venv}
python=${PYTHON:-python3}
missing=

need() { # need PACKAGE COMMAND...: the package is wanted if the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

sbin=${HEOROT_SETUP_SBIN:-/usr/sbin}
PATH=$PATH:$sbin # where ip(8) is, and which is not in every user's PATH
if [ "$purpose" = packages ]; then
    missing="$*"
elif [ "$python" = python3 ]; then
    need python3 command -v python3
    # Debian takes ensurepip out of its Python and puts it into python3-venv; `venv` alone can be imported and then fails.
    need python3-venv python3 -c 'import ensurepip, venv'
fi
if [ "$purpose" = test ]; then
    need make command -v make
    need git command -v git
    need iproute2 command -v ip
    need procps command -v ps
    need etcd-server command -v etcd
    # What the tests let call bprsh.
    need rsync command -v rsync
    need openssh-client command -v scp
    need openssh-sftp-server sh -c 'for file in /usr/*/openssh/sftp-server /usr/*/ssh/sftp-server; do [ -x "$file" ] && exit; done; exit 1'
    need parallel command -v parallel
    need pdsh command -v pdsh
fi
missing=$(echo $missing) # without the blank in front

if [ -n "$missing" ]; then
    line="apt-get install --yes --no-install-recommends $missing"
    if ! command -v apt-get >/dev/null; then
        echo "heorot: please install what Debian calls: $missing" >&2
        exit 1
    elif [ "$(id -u)" -ne 0 ]; then
        echo "heorot: something is missing; as root, please run: $line" >&2
        exit 1
    fi
    echo "heorot: installing what is missing: $line" >&2
    # No package shall start a daemon here: policy-rc.d (invoke-rc.d(8)) forbids it while they are installed.
    policy=$sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    else
        policy=
    fi
    log=$(mktemp)
    if ! { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update &&
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        echo "heorot: apt-get says above why it could not install: $missing" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
    [ -z "$policy" ] || rm -f "$policy"
    trap - EXIT HUP INT TERM
fi
[ "$purpose" != packages ] || exit 0

if [ "$purpose" = test ] && [ "$(id -u)" -ne 0 ]; then
    echo "heorot: the tests of other users, mounts and networks need root, and fail without it" >&2
fi

# The stamp comes last, so that an interrupted installation starts over.
stamp="$venv/.complete"
if [ ! -e "$stamp" ] || [ -n "$(find constraints.txt pyproject.toml scripts/venv.sh -newer "$stamp")" ]; then
    PYTHON="$python" scripts/venv.sh "$venv"
    touch "$stamp"
fi
