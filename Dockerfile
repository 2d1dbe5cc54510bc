# Two images, for the classic builder and BuildKit.
#   worker       runs a task's agent. Contains dist/worker.mjs (`npm run build`). Slipway builds this image itself.
#   coordinator  the server, compiled from the sources during the build.
# The base is named by its tag, so that a build has Debian's and Node's latest fixes and works where the image was made locally
# (scripts/engine.sh). By digest: --build-arg BASE=node:24-bookworm-slim@sha256:... Slipway's own build of the worker takes the tag.
ARG BASE=node:24-bookworm-slim

# ---------------------------------------------------------------- worker
FROM ${BASE} AS worker
# Nothing is installed when the base image has the tools.
RUN if ! { command -v git && command -v rg && [ -e /etc/ssl/certs/ca-certificates.crt ]; } >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends git ca-certificates ripgrep && rm -rf /var/lib/apt/lists/*; \
    fi
# slim or full: full adds what most repositories need to build and test.
ARG TOOLS=slim
RUN if [ "$TOOLS" = full ]; then \
      apt-get update && apt-get install -y --no-install-recommends \
        python3 python3-pip python3-venv make gcc g++ pkg-config jq curl unzip zip xz-utils patch file less procps \
      && rm -rf /var/lib/apt/lists/*; \
    fi
# A worker may write to its workspace (a volume takes over the folder's owner), its home and /tmp. 10001 is WORKER_UID in src/sandbox.
RUN groupadd --gid 10001 agent \
 && useradd --uid 10001 --gid 10001 --create-home --shell /bin/bash agent \
 && install -d -o 10001 -g 10001 -m 0755 /workspace \
 && install -d /worker /run/slipway
# The pattern may match nothing: the classic builder runs this stage for the coordinator too, before anything is built.
COPY Dockerfile dist/worker.mj[s] /worker/
ENV HOME=/home/agent \
    SLIPWAY_SOCKET=/run/slipway/b.sock \
    SLIPWAY_WORKSPACE=/workspace \
    SLIPWAY_STATE=/home/agent/state
RUN install -d -o 10001 -g 10001 -m 0755 /worker/cache
USER 10001:10001
# Fills the compile cache (Node 22 or newer), which is read-only at run time: without a socket the worker ends once it is loaded.
RUN SLIPWAY_SOCKET= NODE_COMPILE_CACHE=/worker/cache node /worker/worker.mjs 2>/dev/null || true
WORKDIR /workspace
ENTRYPOINT ["node", "/worker/worker.mjs"]

# ---------------------------------------------------------------- coordinator, compiled
FROM ${BASE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No compiler: a native module without a binary for this platform is optional and left out (decision 027).
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build
# The software bill of materials of all that runs, then node_modules without what is bundled in dist/.
RUN node scripts/sbom.mjs sbom.cdx.json && node scripts/runtime-packages.mjs

# ---------------------------------------------------------------- coordinator
FROM ${BASE} AS coordinator
# The base's package managers and headers are of no use to a server that is compiled.
RUN if ! { command -v git && command -v tini && command -v ssh-keygen && [ -e /etc/ssl/certs/ca-certificates.crt ]; } >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends git ca-certificates tini openssh-client && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; \
    fi \
 && rm -rf /usr/local/lib/node_modules /usr/local/include /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn* /opt/yarn*
# Group 10001 is that of the workers: their sockets are given to it. The engine's socket needs its group too, at run time
# (`--group-add`, docs/operate.md), or a proxy (docs/deploy).
RUN groupadd --gid 10001 agent \
 && useradd --uid 10000 --user-group --groups agent --home-dir /data --no-create-home --shell /usr/sbin/nologin slipway \
 && install -d -o slipway -g slipway -m 0700 /data
WORKDIR /app
COPY --from=build /app/package.json /app/Dockerfile /app/LICENSE /app/sbom.cdx.json ./
COPY --from=build /app/scripts/git-server.mjs ./scripts/
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/migrations ./migrations
# Without the modules for importers, the benches and the SDK.
COPY --from=build /app/dist/*.mjs ./dist/
COPY --from=build /app/dist/chunks ./dist/chunks
COPY --from=build /app/dist/web ./dist/web
# The data folder needs the same path inside and on the host (-v /data:/data), because the engine mounts parts of it into workers
# (docs/operate.md).
ENV NODE_ENV=production \
    HOME=/data \
    SLIPWAY_DATA_DIR=/data \
    SLIPWAY_HOST=0.0.0.0
# For `docker exec`.
RUN printf '#!/bin/sh\nexec node /app/dist/slipway.mjs "$@"\n' > /usr/local/bin/slipway && chmod 755 /usr/local/bin/slipway
USER slipway
VOLUME /data
EXPOSE 7080
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SLIPWAY_PORT || 7080}/readyz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# tini reaps git processes that outlive their parents, and forwards SIGTERM.
ENTRYPOINT ["tini", "--", "node", "/app/dist/slipway.mjs"]
CMD ["serve"]
# Last, because they differ in each build: --build-arg VERSION=... --build-arg REVISION=$(git rev-parse HEAD)
ARG BASE
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Slipway" \
      org.opencontainers.image.description="A self-hosted coordinator for background coding agents" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
