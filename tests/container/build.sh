#!/usr/bin/env bash
# build.sh cuda|cpu IMAGE: `docker build` with what this machine's pip and git say: where packages are, which commit.
# WEIGHTS=FOLDER builds in that folder's members, as `brats-opt import` and `train --publish` write them.
# A folder of wheels (pip's find-links, for the CPU build of torch) is served to the build on loopback.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VARIANT=$1
IMAGE=$2
BASE_IMAGE=brats-opt-base:bookworm # of engine.sh, where that made one
WEIGHTS=${WEIGHTS:-weights}
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
    wheels=$!
    sleep 1
    kill -0 "$wheels" || { echo "build.sh: port $WHEELS_PORT is taken: set WHEELS_PORT" >&2 && exit 1; }
}

with_weights() { # FOLDER: a copy of the build's files, with the members of that folder
    cp -r pyproject.toml README.md LICENSE entrypoint.py Dockerfile .dockerignore requirements mlcube model brats_infer "$1"
    mkdir "$1/weights"
    cp "$WEIGHTS"/manifest.json "$WEIGHTS"/*.safetensors "$1/weights"
}

clean_up() {
    [ -z "${wheels:-}" ] || kill "$wheels"
    [ "$context" = . ] || rm -r "$context"
}

context=.
trap clean_up EXIT
if [ ! weights -ef "$WEIGHTS" ]; then
    [ -f "$WEIGHTS/manifest.json" ] || { echo "build.sh: $WEIGHTS has no manifest.json: give a weights folder" >&2 && exit 1; }
    context=$(mktemp -d)
    with_weights "$context"
fi
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
docker build --tag "$IMAGE" "${args[@]}" "$context"
