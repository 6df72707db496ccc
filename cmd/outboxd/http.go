package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/monitor"
	"github.com/outboxd/outboxd/relay"
)

// statusReport is the body of /status.
type statusReport struct {
	Version string          `json:"version"`
	Ready   bool            `json:"ready"`
	Blocker string          `json:"blocker,omitempty"` // why it is not ready
	Relay   relay.Status    `json:"relay"`
	Health  *monitor.Health `json:"health,omitempty"` // absent before the monitor's first look, or without it
}

// reporter is what the HTTP endpoints ask.
type reporter interface {
	Status() relay.Status
	Ready() error
}

// newHandler serves /metrics, /healthz, /readyz and /status. All of them only read.
func newHandler(r reporter, health func() *monitor.Health, gatherer prometheus.Gatherer, log zerolog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, log, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.Ready(); err != nil {
			answer(w, log, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte(err.Error()+"\n"))
			return
		}
		answer(w, log, http.StatusOK, "text/plain; charset=utf-8", fmt.Appendf(nil, "%s\n", r.Status().State))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		report := statusReport{Version: version, Relay: r.Status(), Health: health()}
		err := r.Ready()
		if report.Ready = err == nil; err != nil {
			report.Blocker = err.Error()
		}
		body, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			answer(w, log, http.StatusInternalServerError, "text/plain; charset=utf-8", []byte(err.Error()+"\n"))
			return
		}
		answer(w, log, http.StatusOK, "application/json", append(body, '\n'))
	})
	return mux
}

func answer(w http.ResponseWriter, log zerolog.Logger, code int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(code)
	if _, err := w.Write(body); err != nil {
		log.Debug().Err(err).Msg("answer an HTTP request")
	}
}

// serveHTTP listens on addr and serves until stop is called. An address that cannot be listened on is an error at once.
func serveHTTP(ctx context.Context, addr string, handler http.Handler, log zerolog.Logger) (stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on http.addr %q: %w", addr, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error().Err(err).Str("addr", addr).Msg("the HTTP server ended")
		}
	}()
	log.Info().Stringer("addr", listener.Addr()).Msg("serving /metrics, /healthz, /readyz, /status")
	return func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := server.Shutdown(stopping); err != nil {
			log.Debug().Err(err).Msg("stop the HTTP server")
		}
		<-done
	}, nil
}
