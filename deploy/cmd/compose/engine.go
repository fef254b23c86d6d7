package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// stack is the Compose form under a project name of its own, so that a developer's containers and data stay
// untouched.
type stack struct {
	project string
	root    string // folder of docker-compose.yml
}

// settings are the Compose file's variables. They are removed from the environment and .env is ignored, so that the
// stack is tried as it stands in the repository.
var settings = []string{
	"ALLOWED_HOSTS", "ALLOWED_ORIGINS", "ALTYN_BIND", "ALTYN_REVISION", "ALTYN_TOKEN",
	"AUTH", "AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_URL", "AUTH_TENANT_CLAIM", "KEYCLOAK_PASSWORD", "GRAFANA_PASSWORD",
	"LOG_LEVEL", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER_ARG",
	"POSTGRES_SUPERUSER_PASSWORD",
	"ORDERS_PASSWORD", "ORDERS_OWNER_PASSWORD", "PAYMENTS_PASSWORD", "PAYMENTS_OWNER_PASSWORD",
}

// answers returns why the stack cannot run here, or nil if an engine and Compose answer.
func (s stack) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if _, err := s.docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return fmt.Errorf("no container engine answers: %w", err)
	}
	if _, err := s.docker(ctx, "compose", "version", "--short"); err != nil {
		return fmt.Errorf("the engine is there, Docker Compose is not: %w", err)
	}
	return nil
}

// compose runs a command of Docker Compose. Its output becomes the error's text if it fails.
func (s stack) compose(ctx context.Context, args ...string) error {
	_, err := s.docker(ctx, append([]string{"compose", "--project-name", s.project, "--env-file", os.DevNull}, args...)...)
	return err
}

// docker runs a command of the Docker client and returns what it printed.
func (s stack) docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Dir = s.root
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(settings, name)
	})
	// An interrupted command cleans up after itself. It is killed if it does not end in time.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		const maxText = 4000
		text := strings.TrimSpace(stderr.String() + stdout.String())
		return "", fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, text[max(0, len(text)-maxText):])
	}
	return stdout.String(), nil
}

// list returns the words that a Docker command prints.
func (s stack) list(ctx context.Context, args ...string) ([]string, error) {
	out, err := s.docker(ctx, args...)
	return strings.Fields(out), err
}

// containers returns the IDs of the project's containers, also of ended ones; of one service if named.
func (s stack) containers(ctx context.Context, service string) ([]string, error) {
	args := []string{"ps", "--all", "--quiet", "--filter", s.label()}
	if service != "" {
		args = append(args, "--filter", "label=com.docker.compose.service="+service)
	}
	return s.list(ctx, args...)
}

func (s stack) label() string { return "label=com.docker.compose.project=" + s.project }

// remove deletes the project's containers, volumes and networks, and checks that they are gone.
func (s stack) remove(ctx context.Context) error {
	if err := s.compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "20"); err != nil {
		return err
	}
	containers, err1 := s.containers(ctx, "")
	networks, err2 := s.list(ctx, "network", "ls", "--quiet", "--filter", s.label())
	volumes, err3 := s.list(ctx, "volume", "ls", "--quiet", "--filter", s.label())
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if left := slices.Concat(containers, networks, volumes); len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return nil
}

// explain prints what the containers did last, and what their health checks said.
func (s stack) explain(ctx context.Context) {
	commands := [][]string{
		{"compose", "--project-name", s.project, "ps", "--all"},
		{"compose", "--project-name", s.project, "logs", "--no-color", "--tail", "30"},
	}
	if ids, err := s.containers(ctx, ""); err == nil && len(ids) > 0 {
		commands = append(commands, append([]string{"inspect", "--format", "{{.Name}} {{json .State.Health}}"}, ids...))
	}
	for _, args := range commands {
		out, err := s.docker(ctx, args...)
		fmt.Fprintln(os.Stderr, out)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
