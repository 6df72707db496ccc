package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// profiled calls do and writes what Go's profilers saw meanwhile into the folder; an empty one means no profiles. They go into files, and
// not to a port: a profile shows much of the program, and nobody has to guard what does not listen.
func profiled(folder string, do func() error) (err error) {
	if folder == "" {
		return do()
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of --profile: %w", err)
	}
	cpu, err := os.Create(filepath.Join(folder, "cpu.pprof"))
	if err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	defer func() { err = errors.Join(err, cpu.Close()) }()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	failed := do()
	pprof.StopCPUProfile()
	runtime.GC() // what the heap's profile shows is of the last collection
	return errors.Join(failed, writeProfile(folder, "heap"), writeProfile(folder, "allocs"))
}

func writeProfile(folder, name string) error {
	file, err := os.Create(filepath.Join(folder, name+".pprof"))
	if err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(file, 0), file.Close())
}
