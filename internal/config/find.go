package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// findSinks determines the names and kinds of the sinks before anything else is read: what settings
// a sink has depends on its kind, and a variable's name can only be taken apart when the sinks' names are known.
func (l *loader) findSinks(body ast.Node) {
	types := map[string]string{} // as the type settings say
	places := map[string]Source{}
	l.sinksOfFile(body, types, places)
	l.sinksOfFlags(types, places)
	l.sinksOfEnvironment(types, places)
	l.names = slices.Sorted(maps.Keys(places))
	for _, name := range l.names {
		l.kinds[name] = l.kindOf(name, types[name], places[name])
	}
	l.names = slices.DeleteFunc(l.names, func(name string) bool { return l.kinds[name] == "" })
}

// kindOf returns the kind of a sink, or reports why it has none and returns "".
func (l *loader) kindOf(name, typed string, place Source) string {
	path := join("sinks", name)
	switch {
	case !sinkName.MatchString(name):
		l.problem(place, path, "cannot be a sink's name: use lower-case letters, digits, - and _")
		return ""
	case typed == "" && kindOfName(name) == "":
		l.problem(place, path, "does not say its kind: add type (%s), or begin the name with it", strings.Join(sinkKinds, ", "))
		return ""
	case typed != "" && !slices.Contains(sinkKinds, typed):
		l.problem(place, join(path, "type"), "%q is no kind of sink%s: choose one of %s",
			typed, didYouMean(typed, sinkKinds), strings.Join(sinkKinds, ", "))
		return ""
	case typed != "":
		return typed
	default:
		return kindOfName(name)
	}
}

func (l *loader) sinksOfFile(body ast.Node, types map[string]string, places map[string]Source) {
	look := &reader{place: l.file.place, anchors: l.file.anchors} // its problems are reported by the second reading
	for _, section := range look.find(look.resolve(body), "sinks") {
		entries, _ := look.pairs("sinks", section.value)
		for _, entry := range entries {
			places[entry.name] = look.at(entry.key)
			for _, t := range look.find(entry.value, "type") {
				if text, ok := t.value.(*ast.StringNode); ok {
					types[entry.name], places[entry.name] = text.Value, look.at(text.GetToken())
				}
			}
		}
	}
}

// find returns the pairs of a mapping that have the name: none or one.
func (r *reader) find(y ast.Node, name string) []pair {
	pairs, _ := r.pairs("", y)
	return slices.DeleteFunc(pairs, func(p pair) bool { return p.name != name })
}

func (l *loader) sinksOfFlags(types map[string]string, places map[string]Source) {
	for _, f := range l.options.Flags {
		parts := strings.Split(f.Path, ".")
		if len(parts) < 2 || parts[0] != "sinks" {
			continue
		}
		source := Source{Layer: LayerFlag, Name: f.Name}
		if _, known := places[parts[1]]; !known {
			places[parts[1]] = source
		}
		if len(parts) == 3 && parts[2] == "type" {
			types[parts[1]], places[parts[1]] = f.Value, source
		}
	}
}

// sinksOfEnvironment finds sinks that are called by their kind alone, and the types of sinks that are known.
func (l *loader) sinksOfEnvironment(types map[string]string, places map[string]Source) {
	set := l.environment()
	for _, kind := range sinkKinds {
		for _, v := range set {
			if _, known := places[kind]; !known && isSinkVariable(v.name, kind) &&
				(v.value != "" || strings.HasPrefix(v.name, prefix)) {
				places[kind] = v.source()
			}
		}
	}
	for name := range places {
		for _, v := range set {
			if v.name == variable(join(join("sinks", name), "type")) && places[name].Layer != LayerFlag {
				types[name], places[name] = v.value, v.source()
			}
		}
	}
}

// isSinkVariable tells whether the variable sets something of the sink that is called like the kind.
func isSinkVariable(name, kind string) bool {
	for _, n := range leaves(sinkSchemas[kind], join("sinks", kind)) {
		if name == variable(n.path) || slices.Contains(n.legacyNames(), name) {
			return true
		}
	}
	return false
}

// leaf is a setting with its path.
type leaf struct {
	*node
	path string
}

// leaves returns all settings of a section that have a value of their own, lists included, sinks and the
// settings inside lists not.
func leaves(n *node, path string) []leaf {
	var all []leaf
	for _, c := range n.children {
		switch c.kind {
		case kindSection:
			all = append(all, leaves(c, join(path, c.name))...)
		case kindSinks:
		default:
			all = append(all, leaf{c, join(path, c.name)})
		}
	}
	return all
}

// leafPaths returns the paths of leaves.
func leafPaths(n *node, path string) []string {
	var paths []string
	for _, one := range leaves(n, path) {
		paths = append(paths, one.path)
	}
	return paths
}

// Paths returns the settings that have a value of their own, such as "batch.max_messages", but for those of the sinks, which have names.
func Paths() []string { return leafPaths(schema, "") }

// Choices returns the values that the setting may have; nil where it is free, or where there is none of this path.
func Choices(path string) []string {
	for _, one := range leaves(schema, "") {
		if one.path == path {
			return one.enum()
		}
	}
	return nil
}

// all returns every setting that a variable or flag may name now: those of the schema and of each sink.
func (l *loader) all() []leaf {
	all := leaves(schema, "")
	for _, name := range l.names {
		all = append(all, leaves(sinkSchemas[l.kinds[name]], join("sinks", name))...)
	}
	return all
}

func (l *loader) paths() []string {
	var paths []string
	for _, one := range l.all() {
		paths = append(paths, one.path)
	}
	return paths
}
