package redis

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/outboxd/outboxd/sink"
)

// transactions are of one message each: what EXEC said of the first, and that the others landed.
func transactions(t *testing.T, first string) (streams []stream, portions []*portion) {
	streams = []stream{{count: 1}, {count: 1}}
	for i := range streams {
		p := &portion{streams: streams[i : i+1]}
		for range 3 {
			p.cmds = append(p.cmds, goredis.NewCmd(t.Context()))
		}
		p.cmds[2].(*goredis.Cmd).SetVal([]any{"7-1"})
		portions = append(portions, p)
	}
	portions[0].cmds[2].SetErr(serverError(first))
	return streams, portions
}

// A slot moved between a transaction's commands and its EXEC. Valkey 9 says so then; nothing of it has landed, and nothing stands unread behind it.
func TestRedirectedTransactionHasNotLanded(t *testing.T) {
	streams, portions := transactions(t, "ASK 63 127.0.0.1:7001")
	readTransactions(portions, nil)
	if r := (&Sink{}).classify(streams[0].err); !r.known || r.class != sink.Retry {
		t.Errorf("%v is %+v, want a retry with a known fate", streams[0].err, r)
	}
	if streams[1].err != nil || streams[1].ok != 1 {
		t.Errorf("the next transaction: %v", streams[1].err)
	}
}

// The right was taken away between a transaction's commands and its EXEC. What the client reads behind that may be anything.
func TestRefusalWithinATransactionLeavesLaterFatesUnknown(t *testing.T) {
	streams, portions := transactions(t, "NOPERM ACLs rules changed")
	readTransactions(portions, nil)
	for i := range streams {
		if err := streams[i].err; err == nil || (&Sink{}).classify(err).known {
			t.Errorf("stream %d: %v, want an unknown fate", i, err)
		}
	}
}
