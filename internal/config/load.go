package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/goccy/go-yaml/ast"
	"github.com/knadh/koanf/v2"
)

// Options says where the configuration is.
type Options struct {
	File    string        // path of the YAML file; empty for that of OUTBOXD_CONFIG, or none
	EnvFile string        // path of a file with more variables; those of Environ win
	Environ []string      // "NAME=value" as os.Environ returns it; nil for none
	Flags   []Flag        // in the order given; a later one wins
	Warn    func(Problem) // told of what is given and has no effect; nil for nobody
	Need    Need
	Files   bool // files that settings name are read, too: certificates, keys, tokens
}

// Need says what a command cannot do without; what is not needed may be missing, but what is given is checked.
type Need int

// What a command can need.
const (
	NeedAll      Need = iota // the database, and sinks with routes
	NeedDatabase             // the database
	NeedNothing              // names only
)

// Flag is one setting given on the command line.
type Flag struct {
	Name  string // how the user wrote it, for messages: "--set" or "--database-url"
	Path  string // "batch.max_messages"
	Value string // as in the environment; lists as YAML: "[{to: [{sink: redis, destination: x}]}]"
}

// Load reads, lays over each other and checks all that o names. Its error is of type Problems and holds everything that is wrong;
// no Config is returned then, but the sources are.
func Load(o Options) (*Config, Sources, error) {
	l := &loader{options: o, sources: Sources{}, kinds: map[string]string{}}
	l.readEnvFile()
	file := l.parseFile()
	l.findSinks(file)
	given := []tree{l.readFile(file), l.readEnvironment(), l.readFlags()}
	layers := append([]tree{schema.defaults(), l.readPreset(given), l.readAddress(given)}, given...)
	cfg, err := l.merge(layers)
	if err != nil {
		return nil, l.sources, err
	}
	l.check(cfg)
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Source.Layer, b.Source.Layer), cmp.Compare(a.Source.Line, b.Source.Line))
		})
		return nil, l.sources, l.problems
	}
	return cfg, l.sources, nil
}

// Default returns the configuration without a database, sinks and routes: every other setting has its default.
func Default() *Config {
	cfg, err := (&loader{}).merge([]tree{schema.defaults()})
	if err != nil {
		panic(fmt.Sprintf("config: defaults: %v", err))
	}
	return cfg
}

// loader is the state of one Load.
type loader struct {
	options  Options
	sources  Sources
	kinds    map[string]string // of the sinks, by name
	names    []string          // of the sinks, in the order found
	file     *reader
	fromFile map[string]string // files of variables that are not of the process's own environment
	problems Problems
}

// warn tells of what is given and has no effect.
func (l *loader) warn(s Source, setting, format string, args ...any) {
	if l.options.Warn != nil {
		l.options.Warn(Problem{setting, s, fmt.Sprintf(format, args...)})
	}
}

func (l *loader) problem(s Source, setting, format string, args ...any) {
	l.problems = append(l.problems, Problem{setting, s, fmt.Sprintf(format, args...)})
}

func (l *loader) parseFile() ast.Node {
	place := Source{Layer: LayerFile, Name: l.options.File}
	l.file = &reader{place: place, kinds: l.kinds, sources: l.sources}
	if l.options.File == "" {
		return nil
	}
	text, err := os.ReadFile(l.options.File)
	if err != nil {
		l.problem(place, "", "cannot be read: %v", pathless(err))
		return nil
	}
	return l.file.parseYAML(text)
}

func (l *loader) readFile(body ast.Node) tree {
	t := l.file.section(schema, "", l.file.resolve(body))
	l.problems = append(l.problems, l.file.problems...)
	return t
}

func (l *loader) readFlags() tree {
	t := tree{}
	for _, f := range l.options.Flags {
		source := Source{Layer: LayerFlag, Name: f.Name}
		switch n := l.lookup(source, f.Path); {
		case n == nil: // reported
		case n.kind == kindSection:
			l.sectionValue(t, n, f.Path, source, f.Value)
		default:
			l.value(t, n, f.Path, source, f.Value)
		}
	}
	return t
}

// value reads one setting that was given as text, into t.
func (l *loader) value(t tree, n *node, path string, source Source, text string) {
	if n.kind == kindList {
		l.listValue(t, n, path, source, text)
		return
	}
	v, err := n.parse(text)
	if err == nil {
		err = n.checkRange(v)
	}
	if err != nil {
		l.problem(source, path, "%v", err)
		return
	}
	l.sources[path] = source
	t.put(path, v)
}

// listValue reads a list that was given as YAML text, into t. It replaces the list of the layers below.
func (l *loader) listValue(t tree, n *node, path string, source Source, text string) {
	r := &reader{place: source, kinds: l.kinds, sources: Sources{}}
	body := r.resolve(r.parseYAML([]byte(text)))
	var items []any
	if body != nil {
		items = r.list(n, path, body)
	}
	if len(r.problems) > 0 {
		l.problems = append(l.problems, r.problems...)
		return
	}
	l.sources.drop(path)
	l.sources[path] = source
	t.put(path, items)
}

// sectionValue reads a section that was given as YAML text ("sinks.stdout={}"), into t. It is laid over those of the layers below.
func (l *loader) sectionValue(t tree, n *node, path string, source Source, text string) {
	r := &reader{place: source, kinds: l.kinds, sources: l.sources}
	settings := r.section(n, path, r.resolve(r.parseYAML([]byte(text))))
	l.problems = append(l.problems, r.problems...)
	for name, v := range settings {
		t.put(join(path, name), v)
	}
}

// lookup finds the setting of a path that a flag names, or reports it and returns nil.
func (l *loader) lookup(source Source, path string) *node {
	parts := strings.Split(path, ".")
	n := schema
	if parts[0] == "sinks" && len(parts) > 1 {
		if l.kinds[parts[1]] == "" {
			return nil // reported where kinds were determined
		}
		n, parts = sinkSchemas[l.kinds[parts[1]]], parts[2:]
	}
	for _, part := range parts {
		n = n.child(part)
		if n == nil || n.kind == kindSinks {
			l.problem(source, path, "is not a setting%s", didYouMean(path, l.paths()))
			return nil
		}
	}
	return n
}

// sinkName is what a sink may be called: it becomes a part of paths, variables and metrics.
var sinkName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// tree is one layer: sections by name, values of their final types. It is a koanf.Provider.
type tree map[string]any

// Read returns the tree itself.
func (t tree) Read() (map[string]any, error) { return t, nil }

// ReadBytes always fails: a tree has no text.
func (t tree) ReadBytes() ([]byte, error) { return nil, errors.New("a layer of settings has no text") }

// put sets the value at path, making the sections above it.
func (t tree) put(path string, v any) {
	parts := strings.Split(path, ".")
	m := map[string]any(t)
	for _, p := range parts[:len(parts)-1] {
		below, ok := m[p].(map[string]any)
		if !ok {
			below = map[string]any{}
			m[p] = below
		}
		m = below
	}
	m[parts[len(parts)-1]] = v
}

// get returns the value at path, or nil.
func (t tree) get(path string) any {
	var v any = map[string]any(t)
	for p := range strings.SplitSeq(path, ".") {
		section, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = section[p]
	}
	return v
}

// merge lays the layers over each other and decodes the result.
func (l *loader) merge(layers []tree) (*Config, error) {
	k := koanf.New(".")
	for _, layer := range layers {
		if err := k.Load(layer, nil); err != nil {
			return nil, fmt.Errorf("merge configuration: %w", err)
		}
	}
	cfg := &Config{Sinks: map[string]Sink{}}
	for _, name := range l.names {
		s, err := decodeSink(k.Cut("sinks."+name), l.kinds[name])
		if err != nil {
			return nil, fmt.Errorf("merge configuration of sink %s: %w", name, err)
		}
		cfg.Sinks[name] = s
	}
	k.Delete("sinks")
	if err := decode(k, cfg); err != nil {
		return nil, fmt.Errorf("merge configuration: %w", err)
	}
	return cfg, nil
}

func decodeSink(given *koanf.Koanf, kind string) (Sink, error) {
	k := koanf.New(".")
	if err := errors.Join(k.Load(tree(sinkSchemas[kind].defaults()), nil), k.Merge(given)); err != nil {
		return Sink{}, err
	}
	s := Sink{Kind: kind}
	var target any
	switch kind {
	case KindRedis:
		s.Redis = &Redis{Type: kind}
		target = s.Redis
	case KindPulsar:
		s.Pulsar = &Pulsar{Type: kind}
		target = s.Pulsar
	default:
		s.Stdout = &Stdout{Type: kind}
		target = s.Stdout
	}
	return s, decode(k, target)
}

// decode fills the struct; that a value does not fit, or is left over, is a fault of the schema.
func decode(k *koanf.Koanf, target any) error {
	return k.UnmarshalWithConf("", target, koanf.UnmarshalConf{
		Tag:           "yaml",
		DecoderConfig: &mapstructure.DecoderConfig{Result: target, TagName: "yaml", ErrorUnused: true, DecodeHook: hideText},
	})
}

// hideText turns text into the type of the setting that it is for.
func hideText(_, to reflect.Type, data any) (any, error) {
	text, ok := data.(string)
	switch {
	case ok && to == reflect.TypeFor[Secret]():
		return NewSecret(text), nil
	case ok && to == reflect.TypeFor[URL]():
		return NewURL(text), nil
	default:
		return data, nil
	}
}
