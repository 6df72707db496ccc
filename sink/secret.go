package sink

import (
	"fmt"
	"os"
	"strings"
)

// Secret returns the secret in force: what the file at path holds, without white space around it, or plain where path is empty. setting is the name of the
// setting with the path, for the errors: the file cannot be read, or is empty. It is "" where there is no secret.
func Secret(plain, path, setting string) (string, error) {
	if path == "" {
		return plain, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", setting, err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", fmt.Errorf("read %s: %s is empty", setting, path)
	}
	return secret, nil
}
