package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// The corpora are what each run of the tests tries of the targets: whoever adds a target runs it for a while and keeps what it found.
func TestEveryFuzzTargetHasACorpus(t *testing.T) {
	targets := 0
	for folder, code := range testCode(t) {
		for _, found := range fuzzTarget.FindAllStringSubmatch(code, -1) {
			targets++
			corpus := filepath.Join(folder, "testdata", "fuzz", found[1])
			if inputs, err := os.ReadDir(filepath.Join("..", "..", corpus)); err != nil || len(inputs) == 0 {
				t.Errorf("%s holds nothing: %v", corpus, err)
			}
		}
	}
	if targets == 0 {
		t.Error("there are no targets")
	}
}
