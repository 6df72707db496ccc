package check

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"
)

// read returns a file of the repository.
func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decode reads YAML or JSON into the value, and refuses keys that it does not have.
func decode(t *testing.T, path string, text []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// documents splits a YAML file.
func documents(t *testing.T, path string) [][]byte {
	t.Helper()
	return bytes.Split(read(t, path), []byte("\n---\n"))
}
