package sink

import (
	"fmt"
	"os"
	"strings"
)

// Secret returns the secret in force: what the file at path holds, without white space around it, or plain where path is empty. It is "" where there is no secret.
// The errors name the file: it cannot be read, or is empty.
func Secret(plain, path string) (string, error) {
	if path == "" {
		return plain, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}
