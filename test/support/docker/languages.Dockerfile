# Images of five languages as a team would make them, from Debian's packages alone: `docker build --target rust -f … .`
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS plain
RUN apt-get update && apt-get install -y --no-install-recommends git ca-certificates && rm -rf /var/lib/apt/lists/*

FROM plain AS rust
RUN apt-get update && apt-get install -y --no-install-recommends cargo && rm -rf /var/lib/apt/lists/*
ENV CARGO_NET_OFFLINE=true

FROM plain AS go
RUN apt-get update && apt-get install -y --no-install-recommends golang-go && rm -rf /var/lib/apt/lists/*
ENV GOFLAGS=-mod=vendor GOTOOLCHAIN=local

FROM plain AS java
RUN apt-get update && apt-get install -y --no-install-recommends openjdk-17-jdk-headless ant ant-optional junit4 && rm -rf /var/lib/apt/lists/*
ENV JAVA_HOME=/usr

FROM plain AS python
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv python3-pip python3-pytest python3-setuptools python3-wheel && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Debian's npm depends on several hundred packages of its own; /usr/local has none of another Node.
FROM plain AS node
RUN rm -rf /usr/local/bin/node /usr/local/bin/npm /usr/local/bin/npx /usr/local/lib/node_modules \
 && apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
ENV npm_config_offline=true
