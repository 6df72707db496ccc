// Gendocs writes the reference of the configuration to the file that its argument names.
package main

import (
	"fmt"
	"os"

	"github.com/outboxd/outboxd/internal/config"
)

func main() {
	if err := write(os.Args[1]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := config.WriteReference(f); err != nil {
		return err
	}
	return f.Close()
}
