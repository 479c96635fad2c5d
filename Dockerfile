# syntax=docker/dockerfile:1

# The builder and the final image are of one Debian release, so that the program finds the C library it was linked with.
FROM rust:1-slim-bookworm AS builder
WORKDIR /build
COPY . .
# The caches outlive the layer: a change of the sources does not build every dependency again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked && install -D target/release/provisiond /out/provisiond

FROM debian:bookworm-slim
# The certificate authorities for https:// handlers, amqps:// and sslmode=verify-full. Script handlers bring what they
# run with: in an image FROM this one, as root,  RUN apt-get update && apt-get install -y python3  and their files under
# PROVISIOND_SCRIPT__ROOTS, not writable by others and owned by root; or mount them there.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 provisiond \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin provisiond
COPY --from=builder /out/provisiond /usr/local/bin/provisiond
USER 10001:10001
WORKDIR /
# A drain may take worker.drain_timeout (75 s): use  docker stop --time 90,  as a shorter time cuts handlers off.
STOPSIGNAL SIGTERM
# tini is process 1 and takes in what a script leaves behind, which provisiond does not: the dead would pile up.
ENTRYPOINT ["tini", "--", "provisiond"]
CMD ["serve"]
