package pulsar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// withNamespace runs f. When the broker says that the topic is missing, it makes tenant and namespace and runs f again, where
// Config.Create is set; else the error names the commands that mend it.
func (s *Sink) withNamespace(ctx context.Context, t topic, f func() error) error {
	err := f()
	if !isMissing(err) {
		return err
	}
	if !s.cfg.Create {
		return fmt.Errorf("%w: tenant %q or namespace %q is missing: run \"pulsar-admin tenants create %s\" and \"pulsar-admin namespaces create %s\", "+
			"or set create: true and admin_url", err, t.tenant, t.tenant+"/"+t.namespace, t.tenant, t.tenant+"/"+t.namespace)
	}
	if err := s.createNamespace(ctx, t); err != nil {
		return err
	}
	return f()
}

// createNamespace makes the namespace, and the tenant before it when that is missing too. Another process may do the same
// at the same time.
func (s *Sink) createNamespace(ctx context.Context, t topic) error {
	path := "namespaces/" + url.PathEscape(t.tenant) + "/" + url.PathEscape(t.namespace)
	err := s.put(ctx, path, struct{}{})
	if status(err) == http.StatusNotFound {
		if err := s.createTenant(ctx, t.tenant); err != nil {
			return err
		}
		err = s.put(ctx, path, struct{}{})
	}
	if err != nil {
		return fmt.Errorf("create namespace %s/%s: %w", t.tenant, t.namespace, err)
	}
	s.log.Warn().Str("namespace", t.tenant+"/"+t.namespace).Msg("made sure that the missing namespace exists")
	return nil
}

// createTenant makes a tenant that may use every cluster.
func (s *Sink) createTenant(ctx context.Context, tenant string) error {
	var clusters []string
	if err := s.request(ctx, http.MethodGet, "clusters", nil, &clusters); err != nil {
		return fmt.Errorf("create tenant %s: list clusters: %w", tenant, err)
	}
	// Where the configuration is kept is no cluster.
	allowed := slices.DeleteFunc(clusters, func(c string) bool { return c == "global" })
	body := map[string][]string{"adminRoles": {}, "allowedClusters": allowed}
	if err := s.put(ctx, "tenants/"+url.PathEscape(tenant), body); err != nil {
		return fmt.Errorf("create tenant %s: %w", tenant, err)
	}
	s.log.Warn().Str("tenant", tenant).Msg("made sure that the missing tenant exists")
	return nil
}

// put creates what the path names. That it exists is no error. A broker answers with an internal error when another
// process creates the same at the same moment; asked again it says that it exists.
func (s *Sink) put(ctx context.Context, path string, body any) error {
	for attempts := 1; ; attempts++ {
		err := s.request(ctx, http.MethodPut, path, body, nil)
		switch {
		case status(err) == http.StatusConflict:
			return nil
		case status(err) != http.StatusInternalServerError || attempts == putAttempts || !sleep(ctx, putPause):
			return err
		}
	}
}

const (
	putAttempts = 3
	putPause    = 100 * time.Millisecond
)

// statusError is a refusal of the admin REST API.
type statusError struct {
	code   int
	reason string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("admin API answered %d %s: %s", e.code, http.StatusText(e.code), e.reason)
}

// status returns the HTTP status that err says, 0 when it is none.
func status(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.code
	}
	return 0
}

// request calls the admin REST API.
// Source: https://pulsar.apache.org/admin-rest-api/
func (s *Sink) request(ctx context.Context, method, path string, body, answer any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(s.cfg.AdminURL, "/")+"/admin/v2/"+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if err := s.authorize(r); err != nil {
		return err
	}
	response, err := s.admin.Do(r)
	if err != nil {
		return fmt.Errorf("call admin API: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end, or given up
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the admin API's answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return &statusError{response.StatusCode, s.scrub(reason(text))}
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("decode the admin API's answer: %w", err)
	}
	return nil
}

func (s *Sink) authorize(r *http.Request) error {
	token, err := s.cfg.token()
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if s.cfg.Username != "" {
		r.SetBasicAuth(s.cfg.Username, s.cfg.Password)
	}
	return nil
}

// reason takes the text out of an answer: {"reason": "..."}, or a page.
func reason(answer []byte) string {
	var r struct {
		Reason string `json:"reason"`
	}
	text := string(answer)
	if json.Unmarshal(answer, &r) == nil && r.Reason != "" {
		text = r.Reason
	}
	return strings.Join(strings.Fields(text[:min(len(text), 200)]), " ") // the rest is a stack trace
}
