//go:build race

package torture

// buildFlags give outboxd the race detector where the tests have it: what was compiled for them is used again.
var buildFlags = []string{"-race"}
