# The image of the operator and of its workers. Build it in the folder of the repository.
# RUST_IMAGE is the official image of Rust 1.95 on Debian 13, by digest: docker.io/library/rust:1.95-trixie@sha256:<digest>, which
# `docker buildx imagetools inspect docker.io/library/rust:1.95-trixie` prints. A tag may point to other content tomorrow.
ARG RUST_IMAGE
FROM ${RUST_IMAGE} AS build
ARG RUST_IMAGE
RUN echo "$RUST_IMAGE" | grep -Eq '@sha256:[0-9a-f]{64}$' || { echo "RUST_IMAGE has no digest: give it as name@sha256:<digest>" >&2; exit 1; }
RUN apt-get update && apt-get install -y --no-install-recommends cmake ca-certificates binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY tests/simulation tests/simulation
COPY docker docker
RUN cargo build --release --locked --bin transship && docker/rootfs.sh target/release/transship /rootfs

# Nothing but the program, its libraries and CA roots: no shell.
FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/transship"]
