package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/goccy/go-yaml"
)

// YAML returns the configuration as a file that means the same, in the order of the reference. Secrets are masked. Settings
// that do not have their default bear their source as a comment.
func (c *Config) YAML(sources Sources) ([]byte, error) {
	p := printer{sources: sources, comments: yaml.CommentMap{}}
	tree := p.config(c)
	text, err := yaml.MarshalWithOptions(tree, yaml.WithComment(p.comments), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return text, nil
}

// JSON returns the configuration as one JSON object with the file's names. Secrets are masked.
func (c *Config) JSON() ([]byte, error) {
	p := printer{comments: yaml.CommentMap{}}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // addresses hold ampersands
	e.SetIndent("", "  ")
	if err := e.Encode(plain(p.config(c))); err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return b.Bytes(), nil
}

// printer turns the structs back into an ordered tree.
type printer struct {
	sources  Sources
	comments yaml.CommentMap
}

func (p *printer) config(c *Config) yaml.MapSlice {
	return p.section(schema, "", reflect.ValueOf(*c))
}

func (p *printer) section(n *node, path string, v reflect.Value) yaml.MapSlice {
	tree := yaml.MapSlice{}
	for i, c := range n.children {
		tree = append(tree, yaml.MapItem{Key: c.name, Value: p.value(c, join(path, c.name), v.Field(i))})
	}
	return tree
}

func (p *printer) value(n *node, path string, v reflect.Value) any {
	switch n.kind {
	case kindSection:
		return p.section(n, path, v)
	case kindList:
		return p.list(n, path, v)
	case kindSinks:
		return p.sinks(path, v)
	}
	p.comment(path)
	return plainValue(v)
}

func (p *printer) list(n *node, path string, v reflect.Value) []yaml.MapSlice {
	p.comment(path)
	items := make([]yaml.MapSlice, 0, v.Len())
	for i := range v.Len() {
		items = append(items, p.section(n, fmt.Sprintf("%s[%d]", path, i), v.Index(i)))
	}
	return items
}

func (p *printer) sinks(path string, v reflect.Value) yaml.MapSlice {
	tree := yaml.MapSlice{}
	sinks := v.Interface().(map[string]Sink)
	for _, name := range sortedNames(sinks) {
		s := sinks[name]
		below := p.section(sinkSchemas[s.Kind], join(path, name), s.settings())
		tree = append(tree, yaml.MapItem{Key: name, Value: below})
	}
	return tree
}

// comment notes where a setting came from, if it was given.
func (p *printer) comment(path string) {
	if s, given := p.sources[path]; given {
		p.comments["$."+path] = []*yaml.Comment{yaml.LineComment(" " + s.String())}
	}
}

// plain turns ordered trees into maps, which JSON prints sorted.
func plain(v any) any {
	switch t := v.(type) {
	case yaml.MapSlice:
		m := make(map[string]any, len(t))
		for _, item := range t {
			m[fmt.Sprint(item.Key)] = plain(item.Value)
		}
		return m
	case []yaml.MapSlice:
		list := make([]any, len(t))
		for i := range t {
			list[i] = plain(t[i])
		}
		return list
	default:
		return v
	}
}
