package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader turns one YAML text (the file, or a list in a variable or flag) into a tree for koanf, checking it
// against the schema as it goes.
type reader struct {
	place    Source            // the file, variable or flag; lines and columns are added for a file
	kinds    map[string]string // of the sinks, by name
	anchors  map[string]ast.Node
	sources  Sources
	problems Problems
}

// parseYAML returns the text's only document, or nil when it is empty.
func (r *reader) parseYAML(text []byte) ast.Node {
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			r.problem(doc.Body.GetToken(), "", "holds more than one YAML document: keep one")
			return nil
		}
		body = doc.Body
	}
	if body != nil {
		r.anchors = map[string]ast.Node{}
		ast.Walk(anchorCollector(r.anchors), body)
	}
	return body
}

// syntax reports a text that is not YAML. The library's message is constant text; the excerpt that its error prints
// is left out, because it may show a secret.
func (r *reader) syntax(err error) {
	if syntax, ok := errors.AsType[yaml.Error](err); ok {
		r.problem(syntax.GetToken(), "", "is not valid YAML: "+syntax.GetMessage())
		return
	}
	r.problem(nil, "", "is not valid YAML")
}

type anchorCollector map[string]ast.Node

// Visit notes the anchor, if node is one, and goes on below it.
func (c anchorCollector) Visit(node ast.Node) ast.Visitor {
	if a, ok := node.(*ast.AnchorNode); ok {
		c[a.Name.GetToken().Value] = a.Value
	}
	return c
}

// resolve follows anchors and aliases to the value itself; nil is YAML's null.
func (r *reader) resolve(y ast.Node) ast.Node {
	for range 10 {
		switch n := y.(type) {
		case *ast.AnchorNode:
			y = n.Value
		case *ast.AliasNode:
			y = r.anchors[n.Value.GetToken().Value]
		case *ast.NullNode:
			return nil
		default:
			return y
		}
	}
	return nil
}

func (r *reader) at(tk *token.Token) Source {
	s := r.place
	if s.Layer == LayerFile && tk != nil && tk.Position != nil {
		s.Line, s.Column = tk.Position.Line, tk.Position.Column
	}
	return s
}

func (r *reader) problem(tk *token.Token, setting, text string) {
	r.problems = append(r.problems, Problem{setting, r.at(tk), text})
}

// pair is one key of a mapping with its value.
type pair struct {
	name  string
	key   *token.Token
	value ast.Node
}

// pairs returns the keys of a mapping, reporting those that are given twice. It is false when y is no mapping.
func (r *reader) pairs(path string, y ast.Node) ([]pair, bool) {
	var values []*ast.MappingValueNode
	switch m := y.(type) {
	case nil:
		return nil, true
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		return nil, false
	}
	seen := map[string]*token.Token{}
	var pairs []pair
	for _, v := range values {
		tk := v.Key.GetToken()
		if v.Key.IsMergeKey() {
			r.problem(tk, path, "merge keys (<<) are not supported: write the settings out")
			continue
		}
		if first, twice := seen[tk.Value]; twice {
			r.problem(tk, join(path, tk.Value), fmt.Sprintf("is given twice, first at line %d: remove one", first.Position.Line))
			continue
		}
		seen[tk.Value] = tk
		pairs = append(pairs, pair{tk.Value, tk, r.resolve(v.Value)})
	}
	return pairs, true
}

// section reads a mapping whose keys the schema knows.
func (r *reader) section(n *node, path string, y ast.Node) map[string]any {
	tree := map[string]any{}
	pairs, ok := r.pairs(path, y)
	if !ok {
		r.problem(y.GetToken(), path, "wants a section, got "+shape(y))
		return tree
	}
	for _, p := range pairs {
		child := n.child(p.name)
		if child == nil {
			r.unknown(n, path, p)
			continue
		}
		r.setting(child, join(path, p.name), p.key, p.value, tree)
	}
	return tree
}

// setting reads the value of one key into tree. A null leaves the setting as it is.
func (r *reader) setting(n *node, path string, key *token.Token, y ast.Node, tree map[string]any) {
	if y == nil && n.kind != kindSinks {
		return
	}
	switch n.kind {
	case kindSection:
		tree[n.name] = r.section(n, path, y)
	case kindSinks:
		tree[n.name] = r.sinks(path, y)
	case kindList:
		r.sources[path] = r.at(key)
		tree[n.name] = r.list(n, path, y)
	case kindNames:
		if v, ok := r.names(n, path, y); ok {
			r.sources[path] = r.at(key)
			tree[n.name] = v
		}
	default:
		if v, ok := r.scalar(n, path, y); ok {
			r.sources[path] = r.at(y.GetToken())
			tree[n.name] = v
		}
	}
}

// names reads a sequence of words, or a text with commas.
func (r *reader) names(n *node, path string, y ast.Node) (any, bool) {
	seq, ok := y.(*ast.SequenceNode)
	if !ok {
		return r.scalar(n, path, y)
	}
	names := Names{}
	for _, v := range seq.Values {
		text, ok := scalarText(kindString, r.resolve(v))
		if !ok || text == "" {
			r.problem(v.GetToken(), path, "wants a list of names, got something else in it: put each name in quotes")
			return nil, false
		}
		names = append(names, text)
	}
	return names, true
}

// list reads a sequence of sections, each with the defaults of one item below it.
func (r *reader) list(n *node, path string, y ast.Node) []any {
	seq, ok := y.(*ast.SequenceNode)
	if !ok {
		r.problem(y.GetToken(), path, "wants a list, got "+shape(y))
		return nil
	}
	item := &node{name: n.name, kind: kindSection, children: n.children}
	items := make([]any, 0, len(seq.Values))
	for i, v := range seq.Values {
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		v = r.resolve(v)
		if v == nil {
			r.problem(seq.GetToken(), itemPath, "is empty: remove it")
			continue
		}
		r.sources[itemPath] = r.at(start(v))
		tree := item.defaults()
		overlay(tree, r.section(item, itemPath, v))
		for _, c := range item.children {
			if _, given := tree[c.name]; c.required() && !given && !r.failed(join(itemPath, c.name)) {
				r.problem(start(v), join(itemPath, c.name), "is missing: add it")
			}
		}
		items = append(items, tree)
	}
	return items
}

// start returns the first token of a node; a mapping's own token is its first colon.
func start(y ast.Node) *token.Token {
	if m, ok := y.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	return y.GetToken()
}

// sinks reads the section of sinks: each entry by the schema of its kind.
func (r *reader) sinks(path string, y ast.Node) map[string]any {
	tree := map[string]any{}
	pairs, ok := r.pairs(path, y)
	if !ok {
		r.problem(y.GetToken(), path, "wants a section with one entry for each sink, got "+shape(y))
		return tree
	}
	for _, p := range pairs {
		kind := r.kinds[p.name]
		if kind == "" {
			continue // reported where kinds were determined
		}
		r.sources[join(path, p.name)] = r.at(p.key)
		tree[p.name] = r.section(sinkSchemas[kind], join(path, p.name), p.value)
	}
	return tree
}

// failed tells whether the setting was reported already.
func (r *reader) failed(path string) bool {
	return slices.ContainsFunc(r.problems, func(p Problem) bool { return p.Setting == path })
}

// unknown reports a key that the section does not have.
func (r *reader) unknown(n *node, path string, p pair) {
	r.problem(p.key, join(path, p.name), "is not a setting"+r.suggest(n, path, p.name))
}

// suggest names the nearest key of the section, or the section where a key of exactly this name lives.
func (r *reader) suggest(n *node, path, name string) string {
	if near := nearest(name, n.childNames()); near != "" {
		return " (did you mean " + join(path, near) + "?)"
	}
	if i := slices.IndexFunc(leafPaths(schema, ""), func(p string) bool { return strings.HasSuffix(p, "."+name) }); i >= 0 {
		return " (did you mean " + leafPaths(schema, "")[i] + "?)"
	}
	return ": known here are " + strings.Join(n.childNames(), ", ")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// overlay lays a tree over another.
func overlay(base, top map[string]any) {
	for k, v := range top {
		below, ok := base[k].(map[string]any)
		above, ok2 := v.(map[string]any)
		if ok && ok2 {
			overlay(below, above)
		} else {
			base[k] = v
		}
	}
}
