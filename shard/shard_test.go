package shard

import (
	"testing"
)

var all = Columns{ID: "id", TenantID: "tenant_id", AggregateType: "aggregate_type", AggregateID: "aggregate_id"}

func TestRowsOfAShardAreOneCondition(t *testing.T) {
	withDefault := all
	withDefault.DefaultTenant = `o'n\e`
	odd := Columns{ID: `i"d`, AggregateID: "Order Id"}
	for _, c := range []struct {
		of     Shard
		in     Columns
		prefix string
		want   string
	}{
		{Shard{}, all, "o.", ""},
		{Shard{Count: 1, By: Tenant}, all, "o.", ""},
		{Shard{3, 2, Tenant}, all, "", `(hash_record_extended(ROW("tenant_id"), 0) & 9223372036854775807) % 3 = 2`},
		{Shard{2, 0, Tenant}, withDefault, "o.", `(hash_record_extended(ROW(COALESCE(o."tenant_id",  E'o''n\\e')), 0) & 9223372036854775807) % 2 = 0`},
		{Shard{2, 0, Key}, all, "", `(hash_record_extended(ROW("tenant_id", "aggregate_type", "aggregate_id", ` +
			`CASE WHEN "aggregate_id" IS NULL THEN "id" ELSE NULL END), 0) & 9223372036854775807) % 2 = 0`},
		{Shard{2, 0, Key}, odd, "o.", `(hash_record_extended(ROW(o."Order Id", ` +
			`CASE WHEN o."Order Id" IS NULL THEN o."i""d" ELSE NULL END), 0) & 9223372036854775807) % 2 = 0`},
		{Shard{2, 1, Key}, Columns{ID: "id", TenantID: "t"}, "", `(hash_record_extended(ROW("t", "id"), 0) & 9223372036854775807) % 2 = 1`},
	} {
		got, err := c.of.Rows(c.in, c.prefix)
		if err != nil || got != c.want {
			t.Errorf("%+v: got %s, %v, want %s", c.of, got, err, c.want)
		}
	}
	for _, wrong := range []struct {
		of Shard
		in Columns
	}{{Shard{2, 2, Tenant}, all}, {Shard{2, -1, Tenant}, all}, {Shard{17, 0, Key}, all}, {Shard{2, 0, "x"}, all}, {Shard{2, 0, Tenant}, Columns{ID: "id"}}} {
		if got, err := wrong.of.Rows(wrong.in, ""); err == nil {
			t.Errorf("%+v is accepted: %s", wrong, got)
		}
	}
}

func TestFilterIsKnownAsTheServerPrintsIt(t *testing.T) {
	with := func(tenant string) Columns {
		c := all
		c.DefaultTenant = tenant
		return c
	}
	const printed = `(((hash_record_extended(ROW(COALESCE(tenant_id, 'a''b'::character varying), aggregate_type, aggregate_id,
CASE
    WHEN (aggregate_id IS NULL) THEN id
    ELSE NULL::uuid
END), (0)::bigint) & '9223372036854775807'::bigint) % (3)::bigint) = 1)`
	for _, c := range []struct {
		of   Shard
		in   Columns
		same bool
	}{
		{Shard{3, 1, Key}, with("a'b"), true},
		{Shard{3, 0, Key}, with("a'b"), false},
		{Shard{4, 1, Key}, with("a'b"), false},
		{Shard{3, 1, Tenant}, with("a'b"), false},
		{Shard{3, 1, Key}, with("b"), false},
		{Shard{3, 1, Key}, all, false},
	} {
		rows, err := c.of.Rows(c.in, "")
		if err != nil || SameFilter(printed, rows) != c.same {
			t.Errorf("%s: %v, same should be %v", rows, err, c.same)
		}
	}
}

// printedTenant is the filter of shard 1 of 3 by tenant, as a server prints it, with a text for the default tenant.
func printedTenant(text, cast string) string {
	return `(((hash_record_extended(ROW(COALESCE(tenant_id, ` + text + cast + `)), (0)::bigint) & '9223372036854775807'::bigint) % (3)::bigint) = 1)`
}

func TestDefaultTenantsOfFiltersAreComparedExactly(t *testing.T) {
	in := all
	for _, c := range []struct {
		text, cast, tenant string
		same               bool
	}{
		{`'acme'`, `::text`, `acme`, true},
		{`'a b'`, `::text`, `a b`, true},
		{`'a b'`, `::text`, `ab`, false},
		{`'(x)'`, `::text`, `x`, false},
		{`'x::y'`, `::text`, `x`, false},
		{`'x'`, `::text`, `x::y`, false},
		{`'x::y'`, `::text`, `x::y`, true},
		{`'"x"'`, `::text`, `x`, false},
		{`'o''n'`, `::character varying(30)`, `o'n`, true},
		{`'on'`, `::text`, `o'n`, false},
		{`'a\b'`, `::text`, `a\b`, true},
		{`'a\\b'`, `::text`, `a\\b`, true},
		{`'a\\b'`, `::text`, `a\b`, false},
		{`'a\'''`, `::text`, `a\'`, true},
		{`'acme'`, `::"text"`, `acme`, true},
		{`17`, ``, `17`, true},
		{`'-17'`, `::integer`, `-17`, true},
		{`'tenant_id'`, ``, `tenant_id`, true},
		{`tenant_id`, ``, `tenant_id`, false},
	} {
		in.DefaultTenant = c.tenant
		rows, err := Shard{3, 1, Tenant}.Rows(in, "")
		if err != nil || SameFilter(printedTenant(c.text, c.cast), rows) != c.same {
			t.Errorf("%s%s and %q: same should be %v", c.text, c.cast, c.tenant, c.same)
		}
	}
}

func TestNamesOfLayoutsNeverMeet(t *testing.T) {
	seen := map[string]Shard{}
	for _, one := range []Shard{{Count: 1, By: Tenant}, {Count: 4, Number: 1, By: Tenant}, {Count: 4, Number: 3, By: Key}} {
		clear(seen)
		for number := range one.Count {
			own := Shard{Count: one.Count, Number: number, By: one.By}
			seen[own.Name("outboxd")] = own
		}
		for _, s := range one.OfOtherLayouts() {
			name := s.Name("outboxd")
			if other, twice := seen[name]; twice {
				t.Errorf("%+v and %+v are both %s", s, other, name)
			}
			seen[name] = s
			if len(name) > len(s.LongestName("outboxd")) {
				t.Errorf("%s is longer than the longest", name)
			}
		}
		if want := 1 + 2*(Most*(Most+1)/2-1); len(seen) != want {
			t.Errorf("beside %+v there are %d names, want %d", one, len(seen), want)
		}
	}
}
