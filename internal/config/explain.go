package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Explanation is one setting with its value in force. Secrets are masked.
type Explanation struct {
	Setting string `json:"setting"` // path, "batch.max_messages" or "routes[0].to[0].sink"
	Value   any    `json:"value"`
	Source  string `json:"source"` // "default", "preset NAME", "FILE:LINE:COLUMN", "variable NAME" or "flag --NAME"
	Meaning string `json:"meaning"`
}

// Explain returns every setting in the order of the reference.
func (c *Config) Explain(sources Sources) []Explanation {
	e := explainer{sources: sources}
	e.section(schema, "", reflect.ValueOf(*c))
	return e.all
}

type explainer struct {
	sources Sources
	all     []Explanation
}

func (e *explainer) section(n *node, path string, v reflect.Value) {
	for i, c := range n.children {
		e.setting(c, join(path, c.name), v.Field(i))
	}
}

func (e *explainer) setting(n *node, path string, v reflect.Value) {
	switch n.kind {
	case kindSection:
		e.section(n, path, v)
	case kindList:
		for i := range v.Len() {
			e.section(n, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case kindSinks:
		sinks := v.Interface().(map[string]Sink)
		for _, name := range sortedNames(sinks) {
			s := sinks[name]
			e.section(sinkSchemas[s.Kind], join(path, name), s.settings())
		}
	default:
		e.all = append(e.all, Explanation{path, plainValue(v), e.sourceOf(path).describe(), n.tag.Get("doc")})
	}
}

// sourceOf is where the setting itself was given. In a list that is not of the file, the list as a whole was.
func (e *explainer) sourceOf(path string) Source {
	if s, given := e.sources[path]; given {
		return s
	}
	if list, _, inList := strings.Cut(path, "["); inList && e.sources[list].Layer > LayerFile {
		return e.sources[list]
	}
	return Source{}
}

// describe names the kind of the source, too.
func (s Source) describe() string {
	switch s.Layer {
	case LayerEnvironment:
		return "variable " + s.String()
	case LayerFlag:
		return "flag " + s.String()
	default:
		return s.String()
	}
}

// plainValue is the value as it would be written.
func plainValue(v reflect.Value) any {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	return v.Interface()
}
