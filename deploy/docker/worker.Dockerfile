# pgqueue-worker: a static program, not root, beside certificates only. Build it at the root of the repository:
#
#   docker build -f deploy/docker/worker.Dockerfile -t pgqueue-worker --build-arg VERSION=v0.1.0 .
#
# BASE is the base image: scratch is enough to call URLs; commands need a system with their programs.
# GO is the version of Go for the build. The same sources, GO and VERSION give the same program, byte by byte.
ARG GO=golang:1.26
ARG BASE=debian:stable-slim

FROM ${GO} AS build
ARG GOPROXY
ENV CGO_ENABLED=0 GOWORK=off GOTOOLCHAIN=local
WORKDIR /src
# Dependencies come first: they are fetched again only when a go.mod changes.
COPY domain/go.mod domain/
COPY adapters/cells/go.mod adapters/cells/go.sum adapters/cells/
COPY adapters/memory/go.mod adapters/memory/go.sum adapters/memory/
COPY adapters/postgres/go.mod adapters/postgres/go.sum adapters/postgres/
COPY adapters/telemetry/go.mod adapters/telemetry/go.sum adapters/telemetry/
COPY transport/connect/go.mod transport/connect/go.sum transport/connect/
COPY transport/httpaccess/go.mod transport/httpaccess/
COPY transport/rest/go.mod transport/rest/go.sum transport/rest/
COPY apps/internal/program/go.mod apps/internal/program/go.sum apps/internal/program/
COPY apps/worker/go.mod apps/worker/go.sum apps/worker/
RUN --mount=type=cache,target=/go/pkg/mod go -C apps/worker mod download
COPY domain domain
COPY adapters/cells adapters/cells
COPY adapters/postgres/*.go adapters/postgres/
COPY adapters/postgres/internal adapters/postgres/internal
COPY adapters/postgres/sql adapters/postgres/sql
COPY adapters/telemetry adapters/telemetry
COPY transport/connect transport/connect
COPY transport/httpaccess transport/httpaccess
COPY transport/rest transport/rest
COPY apps/internal/program apps/internal/program
COPY apps/worker apps/worker
# grpcnotrace leaves out debug pages, which no route serves, and their 5 MB.
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go -C apps/worker build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /out/pgqueue-worker ./cmd/pgqueue-worker

FROM ${BASE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/pgqueue-worker /usr/local/bin/
USER 65532:65532
ENV PGQUEUE_WORKER_METRICS_ADDR=:9090
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/usr/local/bin/pgqueue-worker", "--check"]
ENTRYPOINT ["/usr/local/bin/pgqueue-worker"]
