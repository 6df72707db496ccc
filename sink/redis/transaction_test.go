package redis

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

// The right was taken away between a transaction's commands and its EXEC. What the client reads behind that may be anything.
func TestRefusalWithinATransactionLeavesLaterFatesUnknown(t *testing.T) {
	streams := []stream{{count: 1}, {count: 1}}
	var portions []*portion
	for i := range streams {
		p := &portion{streams: streams[i : i+1]}
		for range 3 {
			p.cmds = append(p.cmds, goredis.NewCmd(t.Context()))
		}
		portions = append(portions, p)
	}
	portions[0].cmds[2].SetErr(scriptError("NOPERM ACLs rules changed"))
	portions[1].cmds[2].(*goredis.Cmd).SetVal([]any{"7-1"})
	readTransactions(portions, nil)
	for i := range streams {
		if err := streams[i].err; err == nil || (&Sink{}).classify(err).known {
			t.Errorf("stream %d: %v, want an unknown fate", i, err)
		}
	}
}
