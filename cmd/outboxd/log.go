package main

import (
	"github.com/rs/zerolog"

	"github.com/outboxd/outboxd/internal/config"
)

// newLogger returns the logger that the configuration describes, on standard error.
func (a *app) newLogger(c config.Log) zerolog.Logger {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		panic(err) // the configuration knows the levels
	}
	w := a.err
	if c.Format == "console" || c.Format == "auto" && terminal(a.err) {
		w = zerolog.ConsoleWriter{Out: a.err, NoColor: !a.colours(a.err), TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}
