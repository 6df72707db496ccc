// Package config reads outboxd's configuration: it lays the defaults, a preset, a YAML file, the environment and the flags over
// each other, checks the result, and tells of every setting where its value came from.
//
// The struct [Config] is the only place that names a setting. The file's reader, the names of the
// environment's variables, the checks of ranges, `outboxd config` and docs/configuration.md all come from its tags.
//
// # Guarantees
//
//   - Strict: a key, variable or flag that means nothing, a key given twice and a value of the wrong type are
//     errors, never ignored. The names of existing deployments that mean nothing here are warnings, which Options.Warn
//     is told.
//   - Complete: Load reports all problems at once, each with the setting, its place (file:line:column, variable or
//     flag) and what would mend it.
//   - Discreet: a [Secret] and the secrets in a [URL] print masked however they are printed (fmt with any verb,
//     JSON, YAML, text, zerolog). Reveal is the only way to the value. An error never holds one.
//
// # What it does not do
//
// It opens no connection, so it cannot tell whether a server answers. Files that settings name (certificates, keys, tokens) are read where
// Options.Files asks for it. It does not watch the file: a change needs a restart.
//
// # What happens on each failure
//
//   - The file cannot be read or is not YAML: the problems of the environment and the flags are reported beside it.
//   - A value is wrong: it is left out, the checks of the other settings go on, and checks that would need it are skipped.
//   - Anything wrong at all: Load returns [Problems] and no Config.
package config

//go:generate go run ./gendocs ../../docs/configuration.md
