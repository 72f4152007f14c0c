# pgqueue-server: a static program, not root, without other programs. Build it at the root of the repository:
#
#   docker build -f deploy/docker/server.Dockerfile -t pgqueue-server --build-arg VERSION=v0.1.0 .
#
# BASE is the base image: one with certificates for calls by TLS, else scratch. GO is the version of Go for
# the build. The same sources, GO and VERSION give the same program, byte by byte.
ARG GO=golang:1.26
ARG BASE=gcr.io/distroless/static-debian13:nonroot

FROM ${GO} AS build
ARG GOPROXY
ENV CGO_ENABLED=0 GOWORK=off GOTOOLCHAIN=local
WORKDIR /src
# Dependencies come first: they are fetched again only when a go.mod changes.
COPY domain/go.mod domain/
COPY adapters/cells/go.mod adapters/cells/go.sum adapters/cells/
COPY adapters/embedded/go.mod adapters/embedded/go.sum adapters/embedded/
COPY adapters/memory/go.mod adapters/memory/go.sum adapters/memory/
COPY adapters/oidc/go.mod adapters/oidc/go.sum adapters/oidc/
COPY adapters/postgres/go.mod adapters/postgres/go.sum adapters/postgres/
COPY adapters/telemetry/go.mod adapters/telemetry/go.sum adapters/telemetry/
COPY transport/connect/go.mod transport/connect/go.sum transport/connect/
COPY transport/httpaccess/go.mod transport/httpaccess/
COPY transport/rest/go.mod transport/rest/go.sum transport/rest/
COPY transport/web/go.mod transport/web/
COPY apps/internal/program/go.mod apps/internal/program/go.sum apps/internal/program/
COPY apps/server/go.mod apps/server/go.sum apps/server/
RUN --mount=type=cache,target=/go/pkg/mod go -C apps/server mod download
COPY domain domain
COPY adapters/cells adapters/cells
COPY adapters/embedded adapters/embedded
COPY adapters/oidc adapters/oidc
COPY adapters/postgres/*.go adapters/postgres/
COPY adapters/postgres/internal adapters/postgres/internal
COPY adapters/postgres/sql adapters/postgres/sql
COPY adapters/telemetry adapters/telemetry
COPY transport/connect transport/connect
COPY transport/httpaccess transport/httpaccess
COPY transport/rest transport/rest
COPY transport/web/*.go transport/web/
COPY transport/web/dist transport/web/dist
COPY apps/internal/program apps/internal/program
COPY apps/server apps/server
# grpcnotrace leaves out debug pages, which no route serves, and their 5 MB.
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go -C apps/server build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w -buildid= -X main.version=${VERSION}" -o /out/pgqueue-server ./cmd/pgqueue-server

FROM ${BASE}
COPY --from=build /out/pgqueue-server /usr/local/bin/
USER 65532:65532
ENV PGQUEUE_ADDR=:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/usr/local/bin/pgqueue-server", "--check"]
ENTRYPOINT ["/usr/local/bin/pgqueue-server"]
