#!/usr/bin/env bash
# engine.sh start: uses the Docker engine that answers. Where none does, installs one (as root, on Debian), starts it
# without networks of its own, and makes a base image with debootstrap: for machines that cannot pull one.
# engine.sh stop: ends the engine that this script started.
# Mirror, proxies and certificates are those of the machine's own apt and OpenSSL configuration.
set -euo pipefail

BASE_IMAGE=brats-opt-base:bookworm
STATE=${BRATS_OPT_ENGINE:-/var/lib/brats-opt-engine}
CERTIFICATES=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

fail() {
    echo "engine.sh: $*" >&2
    exit 1
}

install_engine() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "no Docker engine answers, and only root on Debian can have one installed here: start one"
    if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io debootstrap >/dev/null
    fi
}

start_engine() {
    # What an earlier engine left: a mounted namespace, and process numbers that are others' by now.
    awk -v run="$STATE/run/" 'index($2, run) == 1 { print $2 }' /proc/mounts | xargs --no-run-if-empty umount
    rm -rf "$STATE/run"
    mkdir -p "$STATE/run"
    setsid dockerd --data-root "$STATE/data" --exec-root "$STATE/run" --pidfile "$STATE/run/dockerd.pid" \
        --storage-driver overlay2 --iptables=false --bridge=none </dev/null >"$STATE/dockerd.log" 2>&1 &
    for _ in $(seq 240); do # two minutes: the machine may be busy
        docker info >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail -n 5 "$STATE/dockerd.log" >&2
    fail "dockerd does not start, see $STATE/dockerd.log"
}

# Debian with Python, as up to date as the mirror: what BASE_IMAGE of the Dockerfile stands for.
make_base() {
    local root sources mirror bundle
    apt-get update -qq # only what apt has a list of is among its targets
    sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        grep -E ' bookworm(-updates|-security)? main$' | sort -u) || fail "apt has no mirror of Debian bookworm"
    mirror=$(awk '$3 == "bookworm" { print $2; exit }' <<<"$sources")
    root=$(mktemp -d -p "$STATE")
    chmod 755 "$root"
    debootstrap --variant=minbase --include=python3,python3-venv bookworm "$root" "$mirror" >"$STATE/debootstrap.log"
    bundle=$root/etc/ssl/certs/ca-certificates.crt
    mkdir -p "$(dirname "$bundle")"
    cp -L "$CERTIFICATES" "$bundle"
    apt-config dump Acquire >"$root/etc/apt/apt.conf.d/90machine"
    echo "$sources" >"$root/etc/apt/sources.list"
    {
        chroot "$root" apt-get update -qq
        chroot "$root" apt-get upgrade -y -qq
        chroot "$root" apt-get clean
    } >>"$STATE/debootstrap.log"
    cp -L "$CERTIFICATES" "$bundle" # an upgrade makes its own
    tar -C "$root" --one-file-system -c . | docker import - "$BASE_IMAGE" >/dev/null
    rm -rf "$root"
}

start() {
    if ! docker info >/dev/null 2>&1; then
        install_engine
        start_engine
    fi
    if [ -f "$STATE/run/dockerd.pid" ]; then # another engine pulls what it needs
        docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 || make_base
    fi
}

stop() {
    [ ! -f "$STATE/run/dockerd.pid" ] || kill "$(cat "$STATE/run/dockerd.pid")"
}

case ${1:-} in
start | stop) "$1" ;;
*) fail "start or stop?" ;;
esac
