package testenv

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// unpack writes the files of a .tar.gz below a folder, without the first element of their names. Nothing lands outside the folder.
func unpack(archive, folder string, p *progress) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer drop(file)
	packed, err := gzip.NewReader(io.TeeReader(file, p))
	if err != nil {
		return fmt.Errorf("read %s: %w", archive, err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer drop(root)
	for entries := tar.NewReader(packed); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = unpackEntry(root, header, entries)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", archive, err)
		}
	}
}

func unpackEntry(root *os.Root, header *tar.Header, content io.Reader) error {
	_, name, _ := strings.Cut(strings.TrimPrefix(header.Name, "./"), "/")
	if name = strings.TrimSuffix(name, "/"); name == "" {
		return nil
	}
	if parent := name[:strings.LastIndex(name, "/")+1]; parent != "" {
		if err := root.MkdirAll(strings.TrimSuffix(parent, "/"), 0o755); err != nil {
			return err
		}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeReg:
		return unpackFile(root, name, header.FileInfo().Mode().Perm(), content)
	default:
		return fmt.Errorf("%s has type %q, which is not expected", name, header.Typeflag)
	}
}

func unpackFile(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
