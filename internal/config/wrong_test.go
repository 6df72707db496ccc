package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// wrongValues are values that the setting cannot have, as the file writes them, each with words that the message must hold; made from what the
// schema says of it.
func wrongValues(n *node) map[string]string {
	wrong := map[string]string{"{a: 1}": "wants "}
	if n.kind != kindNames && n.kind != kindList {
		wrong["[a]"] = "wants "
	}
	switch n.kind {
	case kindInt, kindFloat:
		wrong["many"] = "wants " + n.kind.describe()
	case kindBool:
		wrong["perhaps"] = "wants true or false"
	case kindDuration:
		wrong["soon"] = "write it like 500ms"
		wrong["5"] = "has no unit: write 5s"
	case kindSize:
		wrong["much"] = "write it like 512KiB"
	case kindString, kindSecret, kindURL:
		wrong["5"] = "put it in quotes"
	}
	if n.enum() != nil {
		wrong["nonsense"] = "choose one of"
	}
	low, high := n.tag.Get("min"), n.tag.Get("max")
	switch {
	case high == "":
	case n.kind == kindDuration:
		wrong["-1ms"], wrong["999999h"] = "choose "+low+" to "+high, "choose "+low+" to "+high
	default:
		wrong["-2"], wrong["999999999999999"] = "choose "+low+" to "+high, "choose "+low+" to "+high
	}
	return wrong
}

// Every setting refuses what it cannot be, wherever that is given: the message names the setting, its place and the mend.
func TestEverySettingRefusesWrongValues(t *testing.T) {
	all := leaves(schema, "")
	for _, kind := range sinkKinds {
		all = append(all, leaves(sinkSchemas[kind], join("sinks", kind))...)
	}
	for _, s := range all {
		cases := wrongValues(s.node)
		if len(cases) < 3 && s.kind != kindList && s.kind != kindNames {
			t.Errorf("there is no case for %s", s.path)
		}
		for value, want := range cases {
			text, line := nested(s.path, value)
			_, _, err := load(t, text, Options{Need: NeedNothing})
			checkRefused(t, err, s.path, fmt.Sprintf("outboxd.yaml:%d:", line), want)
			if _, parseErr := s.parse(value); parseErr == nil || s.secret() || strings.ContainsAny(value, "[{") {
				continue // as text it is a value
			}
			_, _, err = load(t, "", Options{Need: NeedNothing, Flags: []Flag{{"--set", s.path, value}}})
			checkRefused(t, err, s.path, "--set", "")
		}
	}
}

// nested is a file that gives one setting, and the line that it stands in.
func nested(path, value string) (text string, line int) {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		text += strings.Repeat("  ", i) + part + ":"
		if i < len(parts)-1 {
			text += "\n"
		}
	}
	return text + " " + value + "\n", len(parts)
}

func checkRefused(t *testing.T, err error, path, place, want string) {
	t.Helper()
	problems, _ := errors.AsType[Problems](err)
	for _, p := range problems {
		if p.Setting == path && strings.HasPrefix(p.Source.String(), place) && strings.Contains(p.Text, want) {
			return
		}
	}
	t.Errorf("%s: got %v, want a problem at %s with %q", path, err, place, want)
}
