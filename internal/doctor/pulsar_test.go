package doctor

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/apache/pulsar-client-go/pulsar"

	"github.com/outboxd/outboxd/internal/testenv"
	"github.com/outboxd/outboxd/sink/pulsar"
)

// admin calls the broker's admin API, which must do it.
func admin(t *testing.T, method, path string, body any) {
	t.Helper()
	if status, answer := testenv.PulsarAdmin(t, testenv.Pulsar(t).AdminURL, method, path, body); status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
}

// namespace makes one, with retention.
func namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("public/n%d", time.Now().UnixNano())
	admin(t, http.MethodPut, "namespaces/"+name, struct{}{})
	admin(t, http.MethodPost, "namespaces/"+name+"/retention", map[string]int{"retentionTimeInMinutes": 1440, "retentionSizeInMB": 1024})
	return name
}

func pulsarAt(t *testing.T, topics ...string) Sink {
	t.Helper()
	server := testenv.Pulsar(t)
	return Sink{
		Name: "pulsar", Pulsar: &pulsar.Config{URL: server.URL, AdminURL: server.AdminURL, Name: func() string { return "outboxd-doctor-test" }},
		Templates: []string{"persistent://{tenant}/outbox/{topic}"}, Destinations: topics,
	}
}

func TestAHealthyPulsarHasNoFindings(t *testing.T) {
	name := namespace(t)
	topic := "persistent://" + name + "/orders"
	findings := examineSink(t, pulsarAt(t, topic))
	if worst(findings) != OK {
		t.Errorf("a healthy Pulsar:\n%s", text(findings))
	}
	wantFinding(t, findings, "destination", OK, topic+" accepts", "")
	wantFinding(t, findings, "retention", OK, "1440 minutes", "")
}

func TestFaultsOfPulsarAreFound(t *testing.T) {
	name := namespace(t)
	topic := "persistent://" + name + "/orders"
	admin(t, http.MethodPost, "namespaces/"+name+"/retention", map[string]int{"retentionTimeInMinutes": 0, "retentionSizeInMB": 0})
	admin(t, http.MethodPost, "namespaces/"+name+"/backlogQuota", map[string]any{"limitSize": 1 << 30, "limitTime": -1, "policy": "consumer_backlog_eviction"})
	admin(t, http.MethodPost, "namespaces/"+name+"/messageTTL", 60)
	admin(t, http.MethodPost, "namespaces/"+name+"/deduplication", true)
	admin(t, http.MethodPost, "namespaces/"+name+"/publishRate", map[string]int{"publishThrottlingRateInMsg": 50, "publishThrottlingRateInByte": -1})
	admin(t, http.MethodPost, "namespaces/"+name+"/subscriptionTypesEnabled", []string{"Shared", "Key_Shared"})
	admin(t, http.MethodPost, "namespaces/"+name+"/subscriptionAuthMode", "Prefix")
	findings := examineSink(t, pulsarAt(t, topic))
	wantFinding(t, findings, "subscription_types", Error, "alone", "set-subscription-types-enabled "+name)
	wantFinding(t, findings, "subscription_auth_mode", Warning, "begin with the role", "set-subscription-auth-mode "+name)
	wantFinding(t, findings, "publish_rate", Warning, "50 messages and -1 bytes", "remove-publish-rate "+name)
	wantFinding(t, findings, "retention", Warning, name+" has no retention", "set-retention "+name)
	wantFinding(t, findings, "backlog_quota", Warning, "evicts", "set-backlog-quota "+name)
	wantFinding(t, findings, "ttl", Info, "after 60 s", "remove-message-ttl")
	wantFinding(t, findings, "deduplication", Info, "is on", "set-deduplication")

	fresh := fmt.Sprintf("public/n%d", time.Now().UnixNano())
	admin(t, http.MethodPut, "namespaces/"+fresh, struct{}{})
	wantFinding(t, examineSink(t, pulsarAt(t, "persistent://"+fresh+"/orders")), "retention", Warning, "the broker's default", "set-retention")

	missing := "nobody/nowhere"
	findings = examineSink(t, pulsarAt(t, "persistent://"+missing+"/orders"))
	wantFinding(t, findings, "namespace", Error, missing+" does not exist", "pulsar-admin namespaces create "+missing)
	wantFinding(t, findings, "destination", Error, "accepts nothing", "")
	create := pulsarAt(t, "persistent://"+missing+"/orders")
	create.Pulsar.Create = true
	findings = examineSink(t, create)
	wantFinding(t, findings, "namespace", Info, "does not exist yet", "")
	wantFinding(t, findings, "destination", Info, "does not exist yet", "")
}

// One cluster stands for a namespace that is not replicated, as the broker says of each.
func TestANamespaceOfSeveralClustersIsFound(t *testing.T) {
	findings := policyFindings("acme/outbox", pulsar.Policies{Clusters: []string{"here", "there"}}, nil)
	wantFinding(t, findings, "geo_replication", Warning, "here, there", "set-clusters acme/outbox")
	name := namespace(t)
	for _, f := range examineSink(t, pulsarAt(t, "persistent://"+name+"/orders")) {
		if f.Check == "geo_replication" {
			t.Errorf("a namespace of one cluster: %+v", f)
		}
	}
}

func TestATopicThatAcceptsNothingIsFound(t *testing.T) {
	name := namespace(t)
	topic := "persistent://" + name + "/orders"
	c, err := client.NewClient(client.ClientOptions{URL: testenv.Pulsar(t).URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.CreateProducer(client.ProducerOptions{Topic: topic, Name: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, examineSink(t, pulsarAt(t, topic)), "destination", Error, "another producer holds the topic", "end the other producer")
	p.Close()
	admin(t, http.MethodPost, "persistent/"+strings.TrimPrefix(topic, "persistent://")+"/terminate", nil)
	wantFinding(t, examineSink(t, pulsarAt(t, topic)), "destination", Error, "erminated", "topics delete")
}

func TestWhatIsNotCheckedIsSaid(t *testing.T) {
	s := pulsarAt(t)
	findings := examineSink(t, s)
	wantFinding(t, findings, "policies", Info, "by placeholders alone", "--destination pulsar:")
	wantFinding(t, findings, "destination", Info, "no topic is asked", "--destination pulsar:")
	s.Pulsar.AdminURL = ""
	wantFinding(t, examineSink(t, s), "policies", Info, "are not checked", "sinks.pulsar.admin_url")
	s.Pulsar.AdminURL = "http://" + testenv.FreeAddress(t)
	s.Destinations = []string{"persistent://" + namespace(t) + "/orders"}
	wantFinding(t, examineSink(t, s), "policies", Warning, "not checked", "sinks.pulsar.admin_url is right")
}

func TestAPulsarThatIsDownIsOneError(t *testing.T) {
	down := testenv.FreeAddress(t)
	s := pulsarAt(t, "persistent://public/default/orders")
	s.Pulsar.URL, s.Pulsar.AdminURL = "pulsar://"+down, ""
	findings := examineSink(t, s)
	wantFinding(t, findings, "connection", Error, "connection refused", "see that the broker runs")
	if Count(findings, Error) != 1 || Count(findings, Warning) != 0 {
		t.Errorf("findings:\n%s", text(findings))
	}
	s.Pulsar.URL = strings.Replace(testenv.Pulsar(t).URL, "pulsar://", "pulsar://"+down+",", 1)
	s.Destinations = nil
	wantFinding(t, examineSink(t, s), "connection", Warning, "not every host", "see that the broker runs")
}
