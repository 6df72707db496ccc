package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// kind is what a setting's value is.
type kind int

const (
	kindSection kind = iota
	kindString
	kindInt
	kindFloat
	kindBool
	kindDuration
	kindSize
	kindSecret
	kindURL
	kindNames
	kindList  // of sections
	kindSinks // a section of sections, whose settings depend on their kind
)

// describe says what a value must be, in words for people.
func (k kind) describe() string {
	return [...]string{
		"a section", "text", "a whole number", "a number", "true or false", "a duration like 5s", "a size like 32MiB",
		"text", "an address", "a list of names", "a list", "a section",
	}[k]
}

// node is one setting or section of the schema. Its tags:
//
//	yaml      its name
//	default   its value when none is given, as it would be written; absent means empty
//	min, max  the least and the greatest value, as they would be written
//	enum      the values that it may have
//	required  it must be given
//	env       names in the environment beside OUTBOXD_..., for existing deployments, see legacy.go
//	doc       what it is
type node struct {
	name     string
	kind     kind
	tag      reflect.StructTag
	children []*node // of a section, in the struct's order; of a list, those of one item
}

var (
	schema      = section("", reflect.TypeFor[Config]())
	sinkSchemas = map[string]*node{
		KindRedis:  section(KindRedis, reflect.TypeFor[Redis]()),
		KindPulsar: section(KindPulsar, reflect.TypeFor[Pulsar]()),
		KindStdout: section(KindStdout, reflect.TypeFor[Stdout]()),
	}
)

func section(name string, t reflect.Type) *node {
	n := &node{name: name, kind: kindSection}
	for f := range t.Fields() {
		if !f.IsExported() { // the last ones: children have the fields' indexes
			continue
		}
		child := &node{name: f.Tag.Get("yaml"), tag: f.Tag, kind: kindOf(f.Type)}
		switch child.kind {
		case kindSection:
			child.children = section(child.name, f.Type).children
		case kindList:
			child.children = section(child.name, f.Type.Elem()).children
		}
		n.children = append(n.children, child)
	}
	return n
}

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[Duration]():
		return kindDuration
	case reflect.TypeFor[Size]():
		return kindSize
	case reflect.TypeFor[Secret]():
		return kindSecret
	case reflect.TypeFor[URL]():
		return kindURL
	case reflect.TypeFor[Names]():
		return kindNames
	}
	switch t.Kind() {
	case reflect.String:
		return kindString
	case reflect.Int:
		return kindInt
	case reflect.Float64:
		return kindFloat
	case reflect.Bool:
		return kindBool
	case reflect.Struct:
		return kindSection
	case reflect.Slice:
		return kindList
	case reflect.Map:
		return kindSinks
	default:
		panic(fmt.Sprintf("config: no kind for %v", t))
	}
}

// child returns the setting of that name, or nil.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (n *node) childNames() []string {
	names := make([]string, len(n.children))
	for i, c := range n.children {
		names[i] = c.name
	}
	return names
}

func (n *node) required() bool { return n.tag.Get("required") == "true" }

// legacyNames returns the names of existing deployments for the setting.
func (n *node) legacyNames() []string {
	if names := n.tag.Get("env"); names != "" {
		return strings.Split(names, ",")
	}
	return nil
}

// enum returns the values that the setting may have, or nil when it is free.
func (n *node) enum() []string {
	if e := n.tag.Get("enum"); e != "" {
		return strings.Split(e, ",")
	}
	return nil
}

// secret tells whether the value must never be shown.
func (n *node) secret() bool { return n.kind == kindSecret || n.kind == kindURL }

// parse reads a value as text in the environment, a flag or the file holds it. Its errors never hold a secret.
func (n *node) parse(s string) (any, error) {
	switch n.kind {
	case kindInt:
		i, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", s)
		}
		return i, nil
	case kindFloat:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("%q is not a number", s)
		}
		return f, nil
	case kindBool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", s)
		}
		return b, nil
	case kindDuration:
		return parseDuration(s)
	case kindSize:
		return parseSize(s)
	case kindSecret, kindURL:
		return s, nil // decode hides it
	case kindNames:
		return parseNames(s)
	case kindString:
		return s, n.checkEnum(s)
	default:
		return nil, fmt.Errorf("is %s, not a value", n.kind.describe())
	}
}

func (n *node) checkEnum(s string) error {
	values := n.enum()
	if _, given := n.tag.Lookup("default"); s == "" && !given {
		return nil // as if it were left out
	}
	if values == nil || slices.Contains(values, s) {
		return nil
	}
	return fmt.Errorf("%q is not known%s: choose one of %s", s, didYouMean(s, values), strings.Join(values, ", "))
}

// checkRange tells whether a parsed value is within min and max. The bounds themselves are checked by a test.
func (n *node) checkRange(v any) error {
	low, high := n.tag.Get("min"), n.tag.Get("max")
	if low == "" || high == "" {
		return nil
	}
	lowest, lowErr := n.parse(low)
	highest, highErr := n.parse(high)
	if lowErr != nil || highErr != nil {
		panic(fmt.Sprintf("config: bounds of %s: %v, %v", n.name, lowErr, highErr))
	}
	switch {
	case asFloat(v) < asFloat(lowest):
		return fmt.Errorf("%v is too small: choose %s to %s", v, low, high)
	case asFloat(v) > asFloat(highest):
		return fmt.Errorf("%v is too large: choose %s to %s", v, low, high)
	}
	return nil
}

// asFloat returns a value of a kind with a range, exact enough to compare it with bounds.
func asFloat(v any) float64 { return reflect.ValueOf(v).Convert(reflect.TypeFor[float64]()).Float() }

// defaults returns the default values of a section, as a tree for koanf.
func (n *node) defaults() map[string]any {
	tree := map[string]any{}
	for _, c := range n.children {
		switch c.kind {
		case kindSection:
			tree[c.name] = c.defaults()
		case kindList, kindSinks:
		default:
			text, given := c.tag.Lookup("default")
			if !given {
				continue
			}
			v, err := c.parse(text)
			if err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", c.name, err))
			}
			tree[c.name] = v
		}
	}
	return tree
}
