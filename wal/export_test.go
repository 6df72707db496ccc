package wal

import "time"

// SetSilenceLimit shortens how long a server may owe a sign of life.
func (s *Stream) SetSilenceLimit(d time.Duration) { s.silenceLimit = d }
