package decode_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/outboxd/outboxd/decode"
)

// FuzzColumns takes any mapping, and any table: names and values in lines, each as "column=value", where a line without = is NULL. Each
// field is filled from the column that the mapping names, or the error says what is missing.
func FuzzColumns(f *testing.F) {
	f.Add("id", "tenant_id", "topic", "", "", "payload", "", "", "id=1\ntenant_id=a\ntopic=t\npayload={}")
	f.Add("id", "kind", "kind", "kind", "", "body", "meta", "", "body=B\nx=1\nid=I\nkind=K\nmeta")
	f.Add("id", "", "topic", "", "id", "payload", "", "none", "id=1\ntopic=\npayload={}")
	f.Add("id", "t", "topic", "", "", "payload", "", "none", "id=1\nt\ntopic=x\npayload={}")
	f.Add("I\"d", "tenant; --", "select", "é", "", "p", "", "", "p=1\né=2\nselect=3\ntenant; --=4\nI\"d=5")
	f.Fuzz(func(t *testing.T, id, tenant, topic, kind, aggregate, payload, metadata, defaultTenant, table string) {
		mapping := decode.Columns{
			ID: id, TenantID: tenant, Topic: topic, AggregateType: kind, AggregateID: aggregate, Payload: payload, Metadata: metadata, DefaultTenant: defaultTenant,
		}
		names, values := parseTable(table)
		if names == nil || strings.ContainsRune(id+tenant+topic+kind+aggregate+payload+metadata, 0) {
			return
		}
		d, r := decode.New("public", "outbox", mapping), newReference("public", "outbox", mapping)
		messages := [][]byte{beginMessage(0x100, 7), relationMessage(outboxID, "public", "outbox", names...), insertMessage(outboxID, values...)}
		for _, data := range messages {
			var m decode.Message
			if err := d.Decode(data, &m); err != nil {
				checkRefused(t, mapping, names, values, err)
				return
			}
			tenantOf(&m, defaultTenant, names, values, tenant)
			if err := r.compare(data, &m); err != nil {
				t.Fatalf("%+v of %q: %v", mapping, table, err)
			}
		}
	})
}

// parseTable returns the columns and their values; nil where no table could have them.
func parseTable(text string) (names []string, values []any) {
	for line := range strings.SplitSeq(text, "\n") {
		name, value, isText := strings.Cut(line, "=")
		if name == "" || slices.Contains(names, name) || strings.ContainsRune(line, 0) {
			return nil, nil
		}
		names = append(names, name)
		if isText {
			values = append(values, value)
		} else {
			values = append(values, null{})
		}
	}
	return names, values
}

// tenantOf takes the default tenant away again, which the reference does not know.
func tenantOf(m *decode.Message, defaultTenant string, names []string, values []any, column string) {
	i := slices.Index(names, column)
	if m.Kind == decode.Insert && string(m.Event.TenantID) == defaultTenant && defaultTenant != "" && (i < 0 || values[i] == null{}) {
		m.Event.TenantID = nil
	}
}

// checkRefused: there is a reason, and the error names it.
func checkRefused(t *testing.T, mapping decode.Columns, names []string, values []any, err error) {
	t.Helper()
	required := []string{mapping.ID, mapping.Topic, mapping.Payload}
	if mapping.DefaultTenant == "" {
		required = append(required, mapping.TenantID)
	}
	for _, column := range mapping.Names() {
		if !slices.Contains(names, column) {
			return
		}
	}
	for _, column := range required {
		if i := slices.Index(names, column); i < 0 || values[i] == (null{}) {
			return
		}
	}
	t.Fatalf("%+v of %q, %v is refused: %v", mapping, names, values, err)
}
