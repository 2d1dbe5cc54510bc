# Two images from one file.
#   worker       what runs a task's agent. It takes dist/worker.mjs as it was built (`npm run build`); Slipway builds this image by itself.
#   coordinator  the server. It compiles itself; nothing but the sources is needed.
# Works with the classic builder as well as with BuildKit.
ARG BASE=node:24-bookworm-slim

# ---------------------------------------------------------------- worker
FROM ${BASE} AS worker
# A base image that has the tools already is taken as it is.
RUN if ! { command -v git && command -v rg && [ -e /etc/ssl/certs/ca-certificates.crt ]; } >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends git ca-certificates ripgrep && rm -rf /var/lib/apt/lists/*; \
    fi
# Everything that a worker may write: the workspace (a volume takes over its owner), its home, /tmp. The numbers are the adapter's.
RUN groupadd --gid 10001 agent \
 && useradd --uid 10001 --gid 10001 --create-home --shell /bin/bash agent \
 && install -d -o 10001 -g 10001 -m 0755 /workspace \
 && install -d /worker /run/slipway
# The pattern may match nothing: the classic builder comes through here on its way to the coordinator, when nothing has been built yet.
COPY Dockerfile dist/worker.mj[s] /worker/
ENV NODE_ENV=production \
    HOME=/home/agent \
    SLIPWAY_SOCKET=/run/slipway/b.sock \
    SLIPWAY_WORKSPACE=/workspace \
    SLIPWAY_STATE=/home/agent/state
RUN install -d -o 10001 -g 10001 -m 0755 /worker/cache
USER 10001:10001
# Compiled once, here, in place of at each start (Node 22 or newer): told no socket, the worker ends as soon as it is loaded. Where it runs, this is read-only.
RUN SLIPWAY_SOCKET= NODE_COMPILE_CACHE=/worker/cache node /worker/worker.mjs 2>/dev/null || true
WORKDIR /workspace
ENTRYPOINT ["node", "/worker/worker.mjs"]

# ---------------------------------------------------------------- coordinator, compiled
FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 make g++ && rm -rf /var/lib/apt/lists/*
# Native modules without a ready binary are compiled against the headers that came with this Node.
ENV npm_config_nodedir=/usr/local
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Keeps to the lock file; other than `npm ci` it bears a lock without the optional packages of platforms that a registry does not carry.
RUN npm install --no-save
COPY . .
RUN npm run build && npm prune --omit=dev

# ---------------------------------------------------------------- coordinator
FROM ${BASE} AS coordinator
RUN if ! { command -v git && command -v tini && [ -e /etc/ssl/certs/ca-certificates.crt ]; } >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends git ca-certificates tini && rm -rf /var/lib/apt/lists/*; \
    fi
WORKDIR /app
COPY --from=build /app/package.json /app/Dockerfile ./
COPY --from=build /app/scripts/git-server.mjs ./scripts/
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/migrations ./migrations
COPY --from=build /app/dist ./dist
# The data folder must have the same path inside and on the host (-v /data:/data), because the engine mounts parts of it into workers;
# docs/operate.md says how to run it.
ENV NODE_ENV=production \
    HOME=/data \
    SLIPWAY_DATA_DIR=/data \
    SLIPWAY_HOST=0.0.0.0
VOLUME /data
EXPOSE 7080
# tini reaps the git processes that outlive their parents, and passes SIGTERM on.
ENTRYPOINT ["tini", "--", "node", "/app/dist/slipway.mjs"]
CMD ["serve"]
