package config

import "testing"

func TestRoutesTextIsAnotherOneWhereAnEventMayGoElsewhere(t *testing.T) {
	text := func(change func(*Config)) string {
		c := Default()
		c.Sinks = map[string]Sink{"redis": {Kind: KindRedis}}
		c.Routes = []Route{{Match: Match{Tenant: "*"}, To: []Target{{Sink: "redis", Destination: "a"}}, OnDead: "pass"}}
		change(c)
		return c.RoutesText()
	}
	before := text(func(*Config) {})
	for name, change := range map[string]func(*Config){
		"the destination":    func(c *Config) { c.Routes[0].To[0].Destination = "b" },
		"what matches":       func(c *Config) { c.Routes[0].Match.Topic = "t" },
		"a further route":    func(c *Config) { c.Routes = append(c.Routes, c.Routes[0]) },
		"the kind of a sink": func(c *Config) { c.Sinks = map[string]Sink{"redis": {Kind: KindPulsar}} },
		"a column":           func(c *Config) { c.Database.Columns.TenantID = "tenant" },
		"the default tenant": func(c *Config) { c.Database.DefaultTenant = "acme" },
	} {
		if text(change) == before {
			t.Errorf("it is the same behind a change of %s", name)
		}
	}
	if text(func(c *Config) { c.Routes[0].OnDead = "block" }) != before {
		t.Error("it is another one where events go the same way")
	}
}
