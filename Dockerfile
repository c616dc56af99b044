# Three images: cluster-test and an etcd to run it against, which docker-compose.yml needs, and
# the operator's command: docker build --target libcluster -t libcluster .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o / ./cmd/cluster-test ./cmd/libcluster

FROM scratch AS cluster-test
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /cluster-test /cluster-test
USER 65532:65532
STOPSIGNAL SIGINT
ENTRYPOINT ["/cluster-test"]

FROM scratch AS libcluster
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /libcluster /libcluster
USER 65532:65532
ENTRYPOINT ["/libcluster"]

FROM debian:bookworm-slim AS etcd
RUN apt-get update && apt-get install -y --no-install-recommends etcd-server && rm -rf /var/lib/apt/lists/*
EXPOSE 2379
ENTRYPOINT ["etcd", "--data-dir=/var/lib/etcd/data", \
    "--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://etcd:2379"]
