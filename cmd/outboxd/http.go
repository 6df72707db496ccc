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
	Version string `json:"version"`
	instanceReport
}

// instanceReport is what one instance says of itself.
type instanceReport struct {
	Ready   bool            `json:"ready"`
	Blocker string          `json:"blocker,omitempty"` // why it is not ready
	Relay   relay.Status    `json:"relay"`
	Health  *monitor.Health `json:"health,omitempty"` // absent before the monitor's first look, or without it
}

// shardsReport is the body of /status where the table is split: of the shards that the process is for.
type shardsReport struct {
	Version string        `json:"version"`
	Ready   bool          `json:"ready"` // all are
	Blocker string        `json:"blocker,omitempty"`
	Shards  []shardReport `json:"shards"`
}

type shardReport struct {
	Shard int `json:"shard"`
	instanceReport
}

func (i *instance) report() instanceReport {
	r := instanceReport{Relay: i.relay.Status(), Health: i.health()}
	err := i.relay.Ready()
	if r.Ready = err == nil; err != nil {
		r.Blocker = err.Error()
	}
	return r
}

// report is the body of /status.
func (f fleet) report() any {
	if !f[0].cfg.Shard().Split() {
		return statusReport{version, f[0].report()}
	}
	all := shardsReport{Version: version}
	err := f.Ready()
	if all.Ready = err == nil; err != nil {
		all.Blocker = err.Error()
	}
	for _, i := range f {
		all.Shards = append(all.Shards, shardReport{i.cfg.Shards.Number, i.report()})
	}
	return all
}

// reporter is what the supervisor, the monitor and the janitor ask.
type reporter interface{ Status() relay.Status }

// newHandler serves /metrics, /healthz, /readyz and /status. All of them only read.
func newHandler(f fleet, gatherer prometheus.Gatherer, log zerolog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, log, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := f.Ready(); err != nil {
			answer(w, log, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte(err.Error()+"\n"))
			return
		}
		answer(w, log, http.StatusOK, "text/plain; charset=utf-8", fmt.Appendf(nil, "%s\n", f.Status().State))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.MarshalIndent(f.report(), "", "  ")
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
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
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
