# syntax=docker/dockerfile:1

# The builder and the final image are of one Debian release, so that the program finds the C library it was linked with.
FROM rust:1-slim-bookworm AS builder
WORKDIR /build
# The allocator is built with make.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
# First the dependencies alone, for a program that does nothing: this layer is made again only when Cargo.toml or Cargo.lock change,
# and needs no cache but the layers themselves, so that a CI machine that starts empty can pull it (--cache-from).
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
# Cargo.toml names a benchmark, which must be there, and is not built.
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
# The certificate authorities for https:// handlers, amqps:// and sslmode=verify-full. Script handlers bring what they
# run with: in an image FROM this one, as root,  RUN apt-get update && apt-get install -y python3  and their files under
# PROVISIOND_SCRIPT__ROOTS, not writable by others and owned by root; or mount them there.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 provisiond \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin provisiond
COPY --from=builder /build/target/release/provisiond /usr/local/bin/provisiond
USER 10001:10001
WORKDIR /
# /metrics, /healthz, /readyz; 8080 is the console's. Both listen on loopback until they are told otherwise.
EXPOSE 9600 8080
# Asks telemetry.listen of its own container. With --ready it also says whether it has what it works with.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["provisiond", "health"]
# A drain may take worker.drain_timeout (75 s): use  docker stop --time 90,  as a shorter time cuts handlers off.
STOPSIGNAL SIGTERM
# tini is process 1 and takes in what a script leaves behind, which provisiond does not: the dead would pile up. It passes signals on.
ENTRYPOINT ["tini", "--", "provisiond"]
CMD ["serve"]
