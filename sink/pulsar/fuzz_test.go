package pulsar

import "testing"

// FuzzParseTopic: a topic that is accepted is written as it was read.
func FuzzParseTopic(f *testing.F) {
	for _, name := range []string{"persistent://t/n/a", "persistent://t/n/a-partition-3", "non-persistent://t/n/a", "t/n/a", "persistent://t//a", "persistent://t/n/a/b", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if parsed, err := parseTopic(name); err == nil && parsed.String() != name {
			t.Errorf("%q is written as %q", name, parsed)
		}
	})
}
