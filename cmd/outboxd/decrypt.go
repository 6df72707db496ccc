package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/outboxd/outboxd/internal/config"
	"github.com/outboxd/outboxd/internal/encrypt"
	"github.com/outboxd/outboxd/internal/human"
)

// maxDecrypt bounds what is read from standard input, in bytes.
const maxDecrypt = 256 << 20

func newDecryptCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decrypt [TEXT]",
		Short: "Decrypt a message, or a single token",
		Long: `Print a text with its Fernet tokens decrypted, by the keys of the settings encrypt.keys or encrypt.keys_file: a single
token becomes what it holds; in JSON each token becomes a string, and all else stays as it is. Without
TEXT it is read from standard input. When a token is of none of the keys, nothing is printed.`,
		Example: `  redis-cli --raw XREVRANGE outbox:acme:order.paid + - COUNT 1 | grep '^{' | ENCRYPTION_KEY=... outboxd decrypt
  outboxd decrypt --config outboxd.yaml gAAAAABm...`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "give one text in quotes, or none to read standard input")
			}
			return nil
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, _, err := a.load(cmd, config.NeedNothing)
		if err != nil {
			return err
		}
		keys, err := cfg.Encrypt.Keyring()
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			return errors.New("there is no key: set encrypt.keys or encrypt.keys_file, or the variable ENCRYPTION_KEY")
		}
		text, err := a.toDecrypt(args)
		if err != nil {
			return err
		}
		plain, err := keys.Decrypt(text)
		if err != nil {
			return fmt.Errorf("decrypt: %w", err)
		}
		if len(plain) == 0 || plain[len(plain)-1] != '\n' {
			plain = append(plain, '\n')
		}
		return a.print("%s", plain)
	}
	return cmd
}

// toDecrypt is the argument, or what standard input holds.
func (a *app) toDecrypt(args []string) ([]byte, error) {
	if len(args) == 1 {
		return []byte(args[0]), nil
	}
	text, err := io.ReadAll(io.LimitReader(a.in, maxDecrypt+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read standard input: %w", err)
	case len(text) > maxDecrypt:
		return nil, fmt.Errorf("standard input holds more than %s: decrypt one message at a time", human.Bytes(maxDecrypt))
	}
	return text, nil
}

// newEncrypter returns what encrypts payloads; nil where nothing is encrypted.
func newEncrypter(cfg *config.Config) (*encrypt.Encrypter, error) {
	keys, err := cfg.Encrypt.Keyring()
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	fields, err := encrypt.ParseFields(cfg.Encrypt.Fields)
	if err != nil || fields.Empty() {
		return nil, err
	}
	return encrypt.New(keys, fields)
}
