package config

import (
	"fmt"
	"strings"
)

// Layer is where a value comes from; a later layer wins.
type Layer int

// The layers, lowest first.
const (
	LayerDefault Layer = iota
	LayerPreset
	LayerFile
	LayerEnvironment
	LayerFlag
)

// Source is the place that a value was given at.
type Source struct {
	Layer  Layer
	Name   string // the preset ("preset low_latency"), the file, the variable or the flag
	File   string // that the variable stands in; empty for the process's own environment
	Line   int    // in the file, from 1; 0 when the source is not a file
	Column int
}

// String returns "default", "preset low_latency", "outboxd.yaml:3:5", the variable's name (with "in .env" where it is from there) or the flag.
func (s Source) String() string {
	switch {
	case s.Layer == LayerDefault:
		return "default"
	case s.File != "":
		return s.Name + " in " + s.File
	case s.Line > 0 && s.Column == 0:
		return fmt.Sprintf("%s:%d", s.Name, s.Line)
	case s.Line > 0:
		return fmt.Sprintf("%s:%d:%d", s.Name, s.Line, s.Column)
	default:
		return s.Name
	}
}

// Sources tells where each setting that was given came from, by path ("batch.max_messages", "routes[0].to[0].sink").
// A setting that is not in it has its default.
type Sources map[string]Source

// Of returns the source of path, or of the nearest setting that holds it.
func (s Sources) Of(path string) Source {
	for path != "" {
		if found, ok := s[path]; ok {
			return found
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return Source{}
}

// drop forgets path and everything below it: a higher layer has replaced it.
func (s Sources) drop(path string) {
	for p := range s {
		if p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			delete(s, p)
		}
	}
}

// Problem is one thing that is wrong, with its mend.
type Problem struct {
	Setting string // path; empty when the file as a whole is meant
	Source  Source // the zero Source when nothing was given where something must be
	Text    string // what is wrong and what to do; never a secret
}

// String returns "place: setting: text".
func (p Problem) String() string {
	var b strings.Builder
	if p.Source.Layer != LayerDefault {
		b.WriteString(p.Source.String() + ": ")
	}
	if p.Setting != "" && p.Setting != p.Source.Name {
		b.WriteString(p.Setting + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is everything that is wrong with a configuration. It is the error that Load returns.
type Problems []Problem

// Error returns one line for each problem, indented below a heading; a single problem stands alone.
func (p Problems) Error() string {
	if len(p) == 1 {
		return "configuration: " + p[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration: %d problems:", len(p))
	for _, one := range p {
		b.WriteString("\n  " + one.String())
	}
	return b.String()
}
