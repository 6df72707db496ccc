// Package human writes values as people read them. It is pure, and nothing in it fails.
package human

import "fmt"

// Bytes returns a number of bytes with one decimal and a binary unit: "2.6 KiB", and below a KiB "512 B".
func Bytes(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
