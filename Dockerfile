# The image of the operator and of its workers. Build it in the folder of the repository.
FROM docker.io/library/rust:1.95-trixie AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake ca-certificates binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY docker docker
RUN cargo build --release --locked --bin transship && docker/rootfs.sh target/release/transship /rootfs

# Nothing but the program, its libraries and CA roots: no shell.
FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/transship"]
