package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// serves checks that the broker works: its health check, which produces and consumes, and that a topic of the default namespace, which the
// broker makes last, can be looked up. Where the settings ask for authentication, the log has to do.
func (p *PulsarServer) serves(ctx context.Context) error {
	for _, path := range []string{"/admin/v2/brokers/health", "/lookup/v2/topic/persistent/public/default/outboxd-ready"} {
		status, body, err := get(ctx, p.AdminURL+path)
		switch {
		case err != nil:
			return err
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			return p.saysReady()
		case status != http.StatusOK:
			return fmt.Errorf("GET %s: status %d: %.200s", path, status, body)
		}
	}
	return nil
}

func (p *PulsarServer) saysReady() error {
	log, err := p.log()
	if err != nil {
		return err
	}
	if !bytes.Contains(log, []byte("messaging service is ready")) {
		return fmt.Errorf("the log of the broker does not say that it is ready")
	}
	return nil
}

// get asks without keeping the connection, so that no goroutine stays for it.
func get(ctx context.Context, url string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer drop(response.Body)
	body, err = io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return response.StatusCode, body, err
}
