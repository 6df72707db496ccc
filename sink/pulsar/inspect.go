package pulsar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	client "github.com/apache/pulsar-client-go/pulsar"
)

// Ping connects to each host of the service URL and says who we are, without naming a topic. It returns how many hosts welcomed us, and an error
// for each that did not.
func (s *Sink) Ping(ctx context.Context) (welcome int, err error) {
	hosts, err := s.serviceHosts()
	if err != nil {
		return 0, err
	}
	var problems []error
	for _, host := range hosts {
		_, hangUp, err := s.dial(ctx, broker{host: host})
		if err != nil {
			problems = append(problems, fmt.Errorf("host %s: %w", host, err))
			continue
		}
		hangUp()
		welcome++
	}
	return welcome, errors.Join(problems...)
}

// Policies are those of a namespace that matter to outboxd. A nil field is the broker's default.
// Source: https://pulsar.apache.org/admin-rest-api/#operation/Namespaces_getPolicies
type Policies struct {
	Retention *struct {
		Minutes   int `json:"retentionTimeInMinutes"` // -1 without end
		Megabytes int `json:"retentionSizeInMB"`      // -1 without limit
	} `json:"retention_policies"`
	BacklogQuotas map[string]struct {
		Policy string `json:"policy"`
	} `json:"backlog_quota_map"`
	TTLSeconds    *int     `json:"message_ttl_in_seconds"`
	Deduplication *bool    `json:"deduplicationEnabled"`
	Clusters      []string `json:"replication_clusters"`
	PublishRates  map[string]struct {
		Messages int   `json:"publishThrottlingRateInMsg"`
		Bytes    int64 `json:"publishThrottlingRateInByte"`
	} `json:"publishMaxMessageRate"` // by cluster; 0 or below: without limit
	SubscriptionAuth  string   `json:"subscription_auth_mode"`     // None or Prefix
	SubscriptionTypes []string `json:"subscription_types_enabled"` // none: the broker's default
}

// ErrNoNamespace says that a namespace or its tenant does not exist.
var ErrNoNamespace = errors.New("namespace does not exist")

// Policies asks the admin API, at Config.AdminURL, for the policies of a namespace, TENANT/NAMESPACE.
func (s *Sink) Policies(ctx context.Context, namespace string) (p Policies, err error) {
	tenant, name, _ := strings.Cut(namespace, "/")
	err = s.request(ctx, http.MethodGet, "namespaces/"+url.PathEscape(tenant)+"/"+url.PathEscape(name), nil, &p)
	if status(err) == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", ErrNoNamespace, err)
	}
	if err != nil {
		return p, fmt.Errorf("read the policies of namespace %s: %w", namespace, err)
	}
	return p, nil
}

// BrokerSettings asks the admin API for the settings that the broker runs with; only its superusers may.
func (s *Sink) BrokerSettings(ctx context.Context) (map[string]string, error) {
	var settings map[string]string
	if err := s.request(ctx, http.MethodGet, "brokers/configuration/runtime", nil, &settings); err != nil {
		return nil, fmt.Errorf("read the broker's settings: %w", err)
	}
	return settings, nil
}

// Secured returns the addresses of the service URL and of the admin API that are connected to by TLS, and how.
func (s *Sink) Secured() (addrs []string, config *tls.Config) {
	if s.secured() {
		if hosts, err := s.serviceHosts(); err == nil {
			addrs = append(addrs, hosts...)
		}
	}
	if u, err := url.Parse(s.cfg.AdminURL); err == nil && u.Scheme == "https" {
		host := u.Host
		if u.Port() == "" {
			host += ":443"
		}
		addrs = append(addrs, host)
	}
	return addrs, s.options.TLSConfig
}

// ClientOptions returns how the sink connects, for who reads what was published: address, authentication and TLS are set.
func (s *Sink) ClientOptions() client.ClientOptions { return s.options }

// Remove deletes a topic with all its partitions by the admin API, at Config.AdminURL, whoever is connected to it. That it is missing is no error.
func (s *Sink) Remove(ctx context.Context, name string) error {
	t, err := parseTopic(name)
	if err != nil {
		return err
	}
	path := "persistent/" + url.PathEscape(t.tenant) + "/" + url.PathEscape(t.namespace) + "/" + url.PathEscape(t.local)
	err = s.request(ctx, http.MethodDelete, path+"/partitions?force=true", nil, nil)
	if err != nil { // it has none, and each version of the broker says so in its own way
		err = s.request(ctx, http.MethodDelete, path+"?force=true", nil, nil)
	}
	if err != nil && status(err) != http.StatusNotFound {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	return nil
}
