package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
)

// errNoEngine: no Docker engine answers.
var errNoEngine = errors.New("no Docker engine answers")

const (
	engineTimeout    = 10 * time.Second
	containerTimeout = 3 * time.Minute // to pull the image and to start
	superuser        = "pgqueue"       // name, password and database in one
)

// startContainer starts image, or says errNoEngine. The container ends with Stop, or soon after this process.
func startContainer(ctx context.Context, image string) (*Server, error) {
	if err := engine(ctx); err != nil {
		return nil, err
	}
	cmd := []string{"postgres"}
	for name, value := range settings {
		cmd = append(cmd, "-c", name+"="+value)
	}
	const port = "5432/tcp"
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithLogger(log.NewNoopLogger()),
		testcontainers.WithEnv(map[string]string{
			"POSTGRES_USER": superuser, "POSTGRES_PASSWORD": superuser, "POSTGRES_DB": superuser,
		}),
		testcontainers.WithCmd(cmd...),
		testcontainers.WithExposedPorts(port),
		testcontainers.WithWaitStrategyAndDeadline(containerTimeout,
			// The image starts it twice: once to initialise, then for good.
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2),
			wait.ForListeningPort(port)))
	if err != nil {
		return nil, errors.Join(err, testcontainers.TerminateContainer(c))
	}
	endpoint, err := c.PortEndpoint(ctx, port, "")
	if err != nil {
		return nil, errors.Join(err, testcontainers.TerminateContainer(c))
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, superuser), Host: endpoint, Path: "/" + superuser,
		RawQuery: "sslmode=disable",
	}
	return &Server{URL: u.String(), stop: func(ctx context.Context) error { return c.Terminate(ctx) }}, nil
}

// engine asks whether an engine answers. The library panics where it finds no way to one.
func engine(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errNoEngine, r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(log.NewNoopLogger()))
	if err != nil {
		return fmt.Errorf("%w: %w", errNoEngine, err)
	}
	if err := provider.Health(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNoEngine, err)
	}
	return nil
}
