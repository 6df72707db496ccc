package redis

import (
	"testing"

	"github.com/outboxd/outboxd/sink"
)

// Before Redis 7 a script is told its error with the line of its command, and without a code.
func TestWhatAnOldServerTellsAScriptIsUnderstood(t *testing.T) {
	s := &Sink{client: &client{}}
	for said, want := range map[string]refusal{
		"@user_script: 5: The user executing the script can't run this command or subcommand":                                      refusals["NOPERM"],
		"@user_script: 12: The user executing the script can't access at least one of the keys mentioned in the command arguments": refusals["NOPERM"],
		"@user_script: 3: -READONLY You can't write against a read only replica.\r\n":                                              refusals["READONLY"],
		"-OOM command not allowed when used memory > 'maxmemory'.":                                                                 refusals["OOM"],
		"@user_script: 7: Unknown Redis command called from Lua script":                                                            {sink.Unavailable, true, true, "streams need Redis 5 or later"},
	} {
		_, inTheReply := endIn([]any{said})
		for _, err := range []error{serverError(said), inTheReply} {
			if got := s.classify(err); got != want {
				t.Errorf("%q is classified as %+v, want %+v", said, got, want)
			}
		}
	}
}
