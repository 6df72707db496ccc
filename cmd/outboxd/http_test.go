package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/testenv"
)

// endpoints are all pages that there are; none of them takes a token, as none of them writes.
var endpoints = []string{"/metrics", "/healthz", "/readyz", "/status"}

// stranger are pages that other programs have: profiles, variables, actions, and ways around the endpoints' names.
var stranger = []string{
	"/", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/-/reload", "/-/quit", "/quitquitquit", "/reload", "/stop", "/pause", "/config",
	"/events", "/events/1/retry", "/events/1/skip", "/events/1/replay", "/slot", "/status/", "/status/pause", "/metrics/", "/healthz/x", "//status", "/./status",
}

// Whoever reaches the HTTP server changes nothing by it: no method but GET and HEAD is answered, and nothing is there but what reads.
func TestHTTPChangesNothing(t *testing.T) {
	t.Parallel()
	addr := testenv.FreeAddress(t)
	o := newOperator(t, "OUTBOXD_HTTP_ADDR="+addr, "OUTBOXD_SINKS_REDIS_MAX_MESSAGE_BYTES=64KiB")
	o.start()
	id := o.insert("acme", "1", 100<<10)
	eventually(t, "an event that an operator could act upon", func() bool { return o.status(id) == "DEAD" })
	before := o.everything()
	for _, page := range slices.Concat(endpoints, stranger) {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "LINK"} {
			there := slices.Contains(endpoints, page)
			if method == "GET" && there {
				continue
			}
			want := []int{http.StatusNotFound}
			if there {
				want = []int{http.StatusMethodNotAllowed}
			} else if strings.Contains(page, "//") || strings.Contains(page, "/./") { // to the cleaned name
				want = []int{http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusNotFound}
			}
			if got := send(t, method, "http://"+addr+page); !slices.Contains(want, got) {
				t.Errorf("%s %s is answered by %d, want %d", method, page, got, want)
			}
		}
	}
	for _, page := range endpoints {
		if got := send(t, "GET", "http://"+addr+page); got != http.StatusOK {
			t.Errorf("GET %s is answered by %d afterwards", page, got)
		}
	}
	if after := o.everything(); after != before {
		t.Errorf("the database held\n%s\nand holds\n%s", before, after)
	}
}

// send returns the status of a request that carries what an action could look for.
func send(t *testing.T, method, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"all": true}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-HTTP-Method-Override", "GET")
	answer, err := http.DefaultTransport.RoundTrip(request) // follows no redirect
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

// everything returns what an action would change: rows, parked events, and the term of the session.
func (o *operator) everything() (text string) {
	o.t.Helper()
	err := o.conn.QueryRow(o.t.Context(), `SELECT concat_ws(E'\n', (SELECT string_agg(o::text, ' ' ORDER BY id) FROM (SELECT id, status, retry_count FROM outbox) o),
		(SELECT string_agg(p::text, ' ' ORDER BY id) FROM (SELECT id, destination, state, attempts FROM outboxd.parked) p),
		(SELECT string_agg(l::text, ' ') FROM outboxd.lease l))`).Scan(&text)
	if err != nil {
		o.t.Fatal(err)
	}
	return text
}

// A request's headers take no more memory than a monitor's need.
func TestHTTPRefusesLargeHeaders(t *testing.T) {
	addr := testenv.FreeAddress(t)
	stop, err := serveHTTP(t.Context(), addr, http.NotFoundHandler(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", response.Status)
	}
}
