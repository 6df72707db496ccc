package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/sink/pulsar"
)

// pulsarSink is what the checks of one Pulsar cluster share.
type pulsarSink struct {
	*Sink
	sink  *pulsar.Sink
	names []string // destinations that are known
	lost  bool     // no host answers
}

const closeTimeout = 2 * time.Second

var pulsarChecks = []check[*pulsarSink]{
	{"tls", checkPulsarTLS},
	{"connection", checkBroker},
	{"policies", checkPolicies},
	{"destination", checkTopics},
}

func examinePulsar(ctx context.Context, s *Sink, cfg *Config, names []string) (findings []Finding) {
	c := *s.Pulsar
	c.Create = false // doctor makes nothing
	if limit := max(cfg.Timeout, 2*c.WithDefaults().AckStall); limit < c.WithDefaults().Timeout {
		c.Timeout = limit
	}
	opened, err := pulsar.New(c, zerolog.Nop())
	if err != nil {
		return []Finding{found(Error, "config", err.Error(), "outboxd run refuses to start", "correct the settings of sinks."+s.Name)}
	}
	p := &pulsarSink{Sink: s, sink: opened, names: names}
	for _, c := range pulsarChecks {
		findings = append(findings, runCheck(ctx, cfg.Timeout, c, p)...)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := opened.Close(closing); err != nil && !p.lost {
		findings = append(findings, found(Info, "connection", err.Error(), "", ""))
	}
	return findings
}

func checkPulsarTLS(ctx context.Context, p *pulsarSink) ([]Finding, error) {
	addrs, config := p.sink.Secured()
	findings := checkCertificates(ctx, addrs, config)
	return append(findings, certificateFile("outboxd at Pulsar", p.Pulsar.TLS.CertFile)...), nil
}

func checkBroker(ctx context.Context, p *pulsarSink) ([]Finding, error) {
	answered, err := p.sink.Ping(ctx)
	if err == nil {
		return []Finding{ok("connection", "Pulsar answers")}, nil
	}
	mend := "see that the broker runs and listens there, and that sinks." + p.Name + ".url is right"
	if strings.Contains(err.Error(), "Authentication") {
		mend = "correct the token, or user and password (sinks." + p.Name + ".token, token_file, username, password)"
	}
	if answered > 0 {
		return []Finding{found(Warning, "connection", "not every host of Pulsar answers: "+err.Error(), "when the others fail, nothing is delivered", mend)}, nil
	}
	p.lost = true
	if _, expired := expiredIn(err); expired {
		return nil, nil // told with its date
	}
	return []Finding{found(Error, "connection", "no answer from Pulsar: "+err.Error(), "events are parked, or wait in the log", mend)}, nil
}

// checkPolicies asks the admin API for the policies of the namespaces that are known.
func checkPolicies(ctx context.Context, p *pulsarSink) (findings []Finding, err error) {
	if p.Pulsar.AdminURL == "" {
		return []Finding{found(Info, "policies", "policies of namespaces are not checked", "retention decides how long outboxd finds the end of a topic again",
			"set sinks."+p.Name+".admin_url, http://host:8080")}, nil
	}
	namespaces := namespacesOf(append(slices.Clone(p.names), p.Templates...))
	if len(namespaces) == 0 {
		return []Finding{found(Info, "policies", "policies of namespaces are not checked: routes name them by placeholders alone", "",
			"outboxd doctor --destination "+p.Name+":persistent://TENANT/NAMESPACE/TOPIC")}, nil
	}
	settings, err := p.sink.BrokerSettings(ctx)
	if err != nil {
		settings = nil // only superusers may; then what a namespace inherits is not known
	}
	for _, name := range namespaces {
		policies, err := p.sink.Policies(ctx, name)
		if errors.Is(err, pulsar.ErrNoNamespace) {
			findings = append(findings, p.missingNamespace(name))
			continue
		}
		if err != nil {
			return append(findings, found(Warning, "policies", "not checked: "+err.Error(), "retention decides how long outboxd finds the end of a topic again",
				"see that sinks."+p.Name+".admin_url is right, and that the role may read policies (pulsar-admin tenants update TENANT --admin-roles ROLE)")), nil
		}
		findings = append(findings, policyFindings(name, policies, settings)...)
	}
	return findings, nil
}

func (p *pulsarSink) missingNamespace(name string) Finding {
	tenant, _, _ := strings.Cut(name, "/")
	if p.Pulsar.Create {
		return found(Info, "namespace", "namespace "+name+" does not exist yet", "outboxd run makes it (create: true)", "")
	}
	return found(Error, "namespace", "namespace "+name+" does not exist", "no topic of it can be made, and its events are parked",
		fmt.Sprintf("pulsar-admin tenants create %s; pulsar-admin namespaces create %s; or set sinks.%s.create: true", tenant, name, p.Name))
}

// namespacesOf returns the TENANT/NAMESPACE of the topics whose names say it without a placeholder.
func namespacesOf(topics []string) []string {
	var names []string
	for _, t := range topics {
		parts := strings.Split(strings.TrimPrefix(t, "persistent://"), "/")
		if len(parts) == 3 && !strings.Contains(parts[0]+parts[1], "{") {
			names = append(names, parts[0]+"/"+parts[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func policyFindings(name string, p pulsar.Policies, broker map[string]string) []Finding {
	findings := []Finding{retentionFinding(name, p, broker)}
	for _, quota := range p.BacklogQuotas {
		if quota.Policy == "consumer_backlog_eviction" {
			findings = append(findings, found(Warning, "backlog_quota", "the backlog quota of "+name+" evicts (consumer_backlog_eviction)",
				"a subscription that is slow loses events that were delivered", "pulsar-admin namespaces set-backlog-quota "+name+" --limit SIZE --policy producer_exception"))
			break
		}
	}
	for _, rate := range p.PublishRates {
		if rate.Messages > 0 || rate.Bytes > 0 {
			findings = append(findings, found(Warning, "publish_rate", fmt.Sprintf("each topic of namespace %s takes %d messages and %d bytes a second (0 or -1: any)", name, rate.Messages, rate.Bytes),
				"beyond it the broker stops reading the connection that this namespace shares with about one in eight of the others: events of all of these are parked meanwhile",
				"pulsar-admin namespaces remove-publish-rate "+name))
			break
		}
	}
	if len(p.SubscriptionTypes) > 0 && !slices.Contains(p.SubscriptionTypes, "Exclusive") {
		findings = append(findings, found(Error, "subscription_types", fmt.Sprintf("namespace %s allows the subscription types %s alone", name, strings.Join(p.SubscriptionTypes, ", ")),
			"outboxd reads the end of a topic by an exclusive one before it publishes: events are parked", "pulsar-admin namespaces set-subscription-types-enabled "+name+" --types Exclusive,..."))
	}
	if p.SubscriptionAuth == "Prefix" {
		findings = append(findings, found(Warning, "subscription_auth_mode", "subscriptions in namespace "+name+" must begin with the role (subscription-auth-mode Prefix)",
			"outboxd reads the end of a topic by subscriptions that begin with outboxd-tail: with a role of another name its events are parked",
			"pulsar-admin namespaces set-subscription-auth-mode "+name+" --subscription-auth-mode None"))
	}
	if len(p.Clusters) > 1 {
		findings = append(findings, found(Warning, "geo_replication", fmt.Sprintf("namespace %s is replicated among the clusters %s", name, strings.Join(p.Clusters, ", ")),
			"outboxd needs the topics to itself: where another cluster replicates to this one, its replicator produces to them, and events are parked; outwards only is fine",
			"pulsar-admin namespaces set-clusters "+name+" --clusters CLUSTER, with this cluster alone, on all others"))
	}
	if p.TTLSeconds != nil && *p.TTLSeconds > 0 {
		findings = append(findings, found(Info, "ttl", fmt.Sprintf("messages in %s count as read after %d s", name, *p.TTLSeconds),
			"a subscription that is down for longer misses events", "pulsar-admin namespaces remove-message-ttl "+name))
	}
	if p.Deduplication != nil && *p.Deduplication || p.Deduplication == nil && broker["brokerDeduplicationEnabled"] == "true" {
		findings = append(findings, found(Info, "deduplication", "message deduplication is on in "+name, "outboxd does not need it, and the broker works for it",
			"pulsar-admin namespaces set-deduplication "+name+" --disable"))
	}
	return findings
}

// retentionFinding: without retention Pulsar deletes what every subscription has acknowledged, and with it the end of the topic.
func retentionFinding(name string, p pulsar.Policies, broker map[string]string) Finding {
	const check = "retention"
	source := ""
	minutes, megabytes := broker["defaultRetentionTimeInMinutes"], broker["defaultRetentionSizeInMB"]
	if p.Retention != nil {
		minutes, megabytes = fmt.Sprint(p.Retention.Minutes), fmt.Sprint(p.Retention.Megabytes)
	} else if broker != nil {
		source = ", the broker's default"
	}
	if minutes == "" || minutes == "0" || megabytes == "" || megabytes == "0" {
		return found(Warning, check, "namespace "+name+" has no retention"+source,
			"Pulsar deletes what every subscription has acknowledged, so that after a crash outboxd may not find the end of a topic and deliver its last events twice",
			"pulsar-admin namespaces set-retention "+name+" --time 1d --size 1G")
	}
	return ok(check, "namespace %s keeps messages for %s minutes and %s MB (-1: without limit)%s", name, minutes, megabytes, source)
}

// checkTopics asks whether the topics accept.
func checkTopics(ctx context.Context, p *pulsarSink) (findings []Finding, err error) {
	if p.lost {
		return nil, nil
	}
	if len(p.names) == 0 {
		return []Finding{found(Info, "destination", "no topic is asked whether it accepts: routes name them by placeholders, and nothing waits", "",
			"outboxd doctor --destination "+p.Name+":persistent://TENANT/NAMESPACE/TOPIC")}, nil
	}
	for _, name := range p.names {
		switch err := p.sink.Probe(ctx, name); {
		case err == nil:
			findings = append(findings, ok("destination", "topic %s accepts", name))
		case ctx.Err() != nil:
			return append(findings, found(Warning, "destination", "no answer about topic "+name+" in time", "it is not known whether it accepts", "run doctor again with a longer --timeout")), nil
		case p.Pulsar.Create && strings.Contains(err.Error(), "pulsar-admin namespaces create"):
			findings = append(findings, found(Info, "destination", "the namespace of "+name+" does not exist yet", "outboxd run makes it (create: true)", ""))
		default:
			findings = append(findings, probeFailed("topic "+name, err))
		}
	}
	return findings, nil
}
