package config

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

// dollar stands for $ while a file is parsed: the library would put other variables in its place, or nothing, and a password with a
// dollar would become another one. It is of Unicode's private use.
const dollar = "\uE024"

// readEnvFile adds the variables of the file to those of the environment, which win, and finds the configuration file that either names.
func (l *loader) readEnvFile() {
	l.fromFile = map[string]string{}
	defer func() {
		if l.options.File == "" {
			l.options.File = l.lookupVariable("OUTBOXD_CONFIG")
		}
	}()
	if l.options.EnvFile == "" {
		return
	}
	place := Source{Layer: LayerFile, Name: l.options.EnvFile}
	text, err := os.ReadFile(l.options.EnvFile)
	if err != nil {
		l.problem(place, "", "cannot be read: %v", pathless(err))
		return
	}
	values, err := parseEnv(text)
	if err != nil {
		place.Line = faultyLine(text)
		l.problem(place, "", "is not NAME=VALUE: put a value with spaces, quotes or # into quotes, and close them")
		return
	}
	l.options.Environ = slices.Clone(l.options.Environ)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		if slices.ContainsFunc(l.options.Environ, func(pair string) bool { return strings.HasPrefix(pair, name+"=") }) {
			continue
		}
		if strings.Contains(value, "${") && IsSetting(name) {
			l.problem(assignment{name: name, file: l.options.EnvFile}.source(), "", "refers to another variable, which is not put in: write the value out")
			continue
		}
		l.fromFile[name] = l.options.EnvFile
		l.options.Environ = append(l.options.Environ, name+"="+value)
	}
}

// IsSetting tells whether outboxd reads a variable of that name.
func IsSetting(name string) bool {
	if strings.HasPrefix(name, prefix) || strings.HasPrefix(name, legacyPrefix) {
		return true
	}
	all := leaves(schema, "")
	for _, kind := range sinkKinds {
		all = append(all, leaves(sinkSchemas[kind], "")...)
	}
	return slices.ContainsFunc(all, func(s leaf) bool { return slices.Contains(s.legacyNames(), name) })
}

// parseEnv reads NAME=VALUE lines: with export before the name, quotes around the value, comments behind it.
func parseEnv(text []byte) (map[string]string, error) {
	values, err := godotenv.UnmarshalBytes(bytes.ReplaceAll(text, []byte("$"), []byte(dollar)))
	for name, value := range values {
		values[name] = strings.ReplaceAll(value, dollar, "$")
	}
	return values, err
}

// faultyLine returns the line, from 1, that text cannot be parsed from. The library does not tell it, and its errors show values. A value in
// quotes may go over several lines, so the fault is behind the longest beginning that can be parsed.
func faultyLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	for n := len(lines) - 1; n > 0; n-- {
		if _, err := parseEnv(bytes.Join(lines[:n], nil)); err == nil {
			return n + 1
		}
	}
	return 1
}

// lookupVariable returns the value of a variable of the environment, or "".
func (l *loader) lookupVariable(name string) string {
	for _, pair := range l.options.Environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// pathless returns the error of a file without its path, which the message names already.
func pathless(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
