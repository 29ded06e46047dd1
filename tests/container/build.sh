#!/usr/bin/env bash
# build.sh cuda|cpu IMAGE: `docker build` with what this machine's pip and git say: where packages are, which commit.
# A folder of wheels (pip's find-links, for the CPU build of torch) is served to the build on loopback.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VARIANT=$1
IMAGE=$2
BASE_IMAGE=brats-opt-base:bookworm # of engine.sh, where that made one
WHEELS_PORT=${WHEELS_PORT:-8764}   # always the same: it is part of what the build's cache goes by

pip_setting() {
    local variable=PIP_${1^^}
    variable=${variable//-/_}
    echo "${!variable:-$(python3 -m pip config get "global.$1" 2>/dev/null || true)}"
}

project() {
    python3 -c "import tomllib; print(tomllib.load(open('pyproject.toml', 'rb'))['project']['$1'])"
}

web() { # those of the words that a build can reach
    tr -s '[:space:]' '\n' | grep -E '^https?://' | paste -sd ' ' || true
}

serve_wheels() { # FOLDER
    python3 -m http.server --bind 127.0.0.1 --directory "$1" "$WHEELS_PORT" >/dev/null 2>&1 &
    trap "kill $!" EXIT
    sleep 1
    kill -0 $! || { echo "build.sh: port $WHEELS_PORT is taken: set WHEELS_PORT" >&2 && exit 1; }
}

links=$(pip_setting find-links)
args=(
    --build-arg "VARIANT=$VARIANT"
    --build-arg "VERSION=$(project version)"
    --build-arg "REVISION=$(git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || echo unknown)"
    --build-arg "SOURCE=$(git config --get remote.origin.url | web | sed 's#//[^/]*@#//#' | grep . || echo unknown)"
    --build-arg "PIP_INDEX_URL=$(pip_setting index-url)"
    --build-arg "PIP_EXTRA_INDEX_URL=$(pip_setting extra-index-url | web)"
)
if [ "$VARIANT" = cpu ] && [ -d "$links" ]; then
    serve_wheels "$links"
    args+=(--network host --build-arg "PIP_FIND_LINKS=http://127.0.0.1:$WHEELS_PORT/")
elif [ "$VARIANT" = cpu ]; then # not for CUDA: of equal versions pip would take the one without it
    args+=(--build-arg "PIP_FIND_LINKS=$links")
fi
if docker image inspect "$BASE_IMAGE" >/dev/null 2>&1; then # an engine without networks of its own
    args+=(--network host --build-arg "BASE_IMAGE=$BASE_IMAGE" --build-arg PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
fi
docker build --tag "$IMAGE" "${args[@]}" .
