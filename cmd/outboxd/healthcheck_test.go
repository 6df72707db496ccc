package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheckSaysWhatTheInstanceSays(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("connecting: no route to host\n"))
		}
	}))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	port := addr[strings.LastIndex(addr, ":"):]
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, c := range []struct {
		name, addr string
		flags      []string
		code       int
		says       string
	}{
		{"lives", addr, nil, exitFine, ""},
		{"lives, on every address", "0.0.0.0" + port, nil, exitFine, ""},
		{"not ready", addr, []string{"--ready"}, exitFailure, "answers 503 Service Unavailable: connecting: no route to host"},
		{"nothing listens", strings.TrimPrefix(gone.URL, "http://"), nil, exitFailure, "see that outboxd run is up on this machine"},
		{"no server", "", nil, exitFailure, "http.addr is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{out: &out, err: &out}
			args := append([]string{"healthcheck", "--set", "http.addr=" + c.addr}, c.flags...)
			if code := execute(context.Background(), a, args); code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exits %d, says %q; want %d, %q", code, out.String(), c.code, c.says)
			}
		})
	}
}

func TestInstanceIsAskedOnItsOwnMachine(t *testing.T) {
	for addr, want := range map[string]string{
		":9090": "http://localhost:9090/healthz", "0.0.0.0:1": "http://localhost:1/healthz", "[::]:1": "http://localhost:1/healthz",
		"10.1.2.3:1": "http://10.1.2.3:1/healthz", "[::1]:1": "http://[::1]:1/healthz", "metrics:1": "http://metrics:1/healthz",
	} {
		if got, err := instanceURL(addr, "/healthz"); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", addr, got, err, want)
		}
	}
}
