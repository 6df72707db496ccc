package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
)

const healthcheckLong = `Ask the instance that runs with the same configuration, on this machine, whether it lives.

It exits 0 when /healthz answers 200, and 1 when it does not: made for a container's health check, where there is no shell
and no curl. --ready asks /readyz instead, which a broker's outage makes fail.`

func newHealthcheckCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running instance whether it lives",
		Long:  healthcheckLong,
		Example: `  outboxd healthcheck --config outboxd.yaml
  outboxd healthcheck --ready --timeout 1s`,
		Args: noArguments,
	}
	ready := cmd.Flags().Bool("ready", false, "ask /readyz: is it streaming or standing by, with no destination that fails?")
	timeout := cmd.Flags().Duration("timeout", 3*time.Second, "how long the answer may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := a.load(cmd, config.NeedNothing)
		if err != nil {
			return err
		}
		path := "/healthz"
		if *ready {
			path = "/readyz"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		return askInstance(ctx, cfg.HTTP.Addr, path)
	}
	return cmd
}

// askInstance asks the HTTP server that listens on addr, on this machine, and returns what it has against it.
func askInstance(ctx context.Context, addr, path string) error {
	if addr == "" {
		return errors.New("http.addr is empty, so the instance has no health to ask for: set it")
	}
	url, err := instanceURL(addr, path)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	client := http.Client{Transport: &http.Transport{}} // no proxy lies on the way to this machine
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the instance: see that outboxd run is up on this machine with http.addr %q: %w", addr, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	return errors.Join(fmt.Errorf("%s answers %s: %s", url, answer.Status, strings.TrimSpace(string(body))), err)
}

// instanceURL is where a server that listens on addr is reached from its own machine.
func instanceURL(addr, path string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("http.addr %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // both families, as a server on every address
	}
	return "http://" + net.JoinHostPort(host, port) + path, nil
}
