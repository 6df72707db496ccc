//go:build !race

package torture

var buildFlags []string
