package torture

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPatchesApply keeps what `make torture-proof` switches off in step with the code.
func TestPatchesApply(t *testing.T) {
	patches, err := filepath.Glob("testdata/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatalf("find patches: %v", err)
	}
	for _, name := range patches {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command("git", "apply", "--check", path)
		command.Dir = filepath.Join("..", "..")
		if answer, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s does not fit the code any more: %v\n%s", name, err, answer)
		}
	}
}
