# syntax=docker/dockerfile:1

# Both images use the same Debian release, because the program needs the C library it was linked with.
FROM rust:1-slim-bookworm AS builder
WORKDIR /build
# The build of the allocator (jemalloc) needs make.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
# Build the dependencies first, with an empty program. This layer is rebuilt only when Cargo.toml, Cargo.lock or .cargo
# changes. It uses no cache mount, so an empty CI machine can pull it with --cache-from.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
# Cargo.toml names it too.
COPY tests/macros tests/macros
# Cargo.toml names a benchmark: its file must exist, but it is not built.
RUN mkdir -p src benches/bench \
    && echo 'fn main() {}' | tee src/main.rs > benches/bench/main.rs \
    && cargo build --release --locked \
    && rm -r src target/release/provisiond target/release/deps/provisiond-* target/release/.fingerprint/provisiond-*
COPY askama.toml ./
COPY config config
COPY migrations migrations
COPY src src
RUN cargo build --release --locked && strip target/release/provisiond

FROM debian:bookworm-slim
# ca-certificates is for https:// handlers, amqps:// and sslmode=verify-full.
# Script handlers need an image FROM this one. Install their interpreter as root, with
#   RUN apt-get update && apt-get install -y python3
# and put their files under PROVISIOND_SCRIPT__ROOTS, owned by root and not writable by others. Or mount them there.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 provisiond \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin provisiond
COPY --from=builder /build/target/release/provisiond /usr/local/bin/provisiond
USER 10001:10001
WORKDIR /
# 9600: /metrics, /healthz, /readyz. 8080: console. Both listen on loopback by default.
EXPOSE 9600 8080
# Checks telemetry.listen in this container. With --ready it also checks that its services can be reached.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["provisiond", "health"]
# A drain takes up to worker.drain_timeout (75 s). Use `docker stop --time 90`: a shorter time cuts off handlers.
STOPSIGNAL SIGTERM
# tini is process 1. It forwards signals, and reaps orphaned processes that provisiond does not adopt and reap itself.
ENTRYPOINT ["tini", "--", "provisiond"]
CMD ["serve"]
