package testenv

// PID returns the id of the server's process.
func (s *server) PID() int { return s.process.pid }
