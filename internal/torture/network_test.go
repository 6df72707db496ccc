package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// The legs that an instance has proxies for. The replication connection and those for SQL share the one to PostgreSQL; faults of one of them alone
// are made at the server's processes, and those of a network that befall only some of the connections.
const (
	legPostgres = "postgres"
	legBroker   = "broker"
)

// applicationProxy is the address of PostgreSQL for the application, and for whoever injects faults. Nothing befalls it.
const applicationProxy = "application"

// network is the proxies of both instances.
type network struct {
	server  *toxiproxy.ApiServer // its HTTP API is never started
	proxies map[string]*toxiproxy.Proxy
}

func newNetwork() *network {
	metrics := toxiproxy.NewMetricsContainer(prometheus.NewRegistry())
	return &network{server: toxiproxy.NewServer(metrics, zerolog.Nop()), proxies: map[string]*toxiproxy.Proxy{}}
}

func proxyName(instance int, leg string) string { return fmt.Sprintf("%s-%d", leg, instance+1) }

// open makes the proxy of an instance's leg.
func (n *network) open(instance int, leg, listen, upstream string) error {
	return n.add(proxyName(instance, leg), listen, upstream)
}

func (n *network) add(name, listen, upstream string) error {
	p := toxiproxy.NewProxy(n.server, name, listen, upstream)
	var err error
	// A process that is being started holds the listener of testenv.FreeAddress until it has become the other program.
	if !until(10*time.Second, func() bool { err = p.Start(); return err == nil }) {
		return fmt.Errorf("start the proxy of %s: %w", p.Name, err)
	}
	n.proxies[p.Name] = p
	return nil
}

func (n *network) proxy(instance int, leg string) *toxiproxy.Proxy {
	return n.proxies[proxyName(instance, leg)]
}

// lead cuts the connections of a proxy and leads later ones elsewhere. What befalls the proxy stays.
func (n *network) lead(name, upstream string) error {
	p := n.proxies[name]
	if err := p.Update(&toxiproxy.Proxy{Listen: p.Listen, Upstream: upstream, Enabled: p.Enabled}); err != nil {
		return fmt.Errorf("lead the proxy of %s elsewhere: %w", name, err)
	}
	return nil
}

// close ends all proxies and their connections.
func (n *network) close() {
	for _, p := range n.proxies {
		p.Stop()
	}
}

// toxic is a fault of a connection, in toxiproxy's terms.
type toxic struct{ kind, stream, attributes string }

// share is how likely something befalls a connection.
type share float64

// everyConnection is what a fault of a whole leg befalls.
const everyConnection share = 1

// drawShare draws whether something befalls every connection, or about half of them.
func drawShare(random *rand.Rand) share {
	if random.IntN(2) == 0 {
		return 0.5
	}
	return everyConnection
}

func (s share) String() string {
	if s == everyConnection {
		return "every connection"
	}
	return "about half of the connections"
}

// poison adds toxics to connections of a proxy, and returns what takes them away.
func poison(p *toxiproxy.Proxy, befalls share, all ...toxic) (heal, error) {
	cure := func() error {
		var failed []error
		for _, t := range all {
			failed = append(failed, p.Toxics.RemoveToxic(context.Background(), t.name()))
		}
		return errors.Join(failed...)
	}
	for _, t := range all {
		text := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "toxicity": %g, "attributes": %s}`, t.name(), t.kind, t.stream, float64(befalls), t.attributes)
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			return nil, fmt.Errorf("add %s to %s: %w", t.name(), p.Name, err)
		}
	}
	return cure, nil
}

func (t toxic) name() string { return t.kind + "-" + t.stream }
