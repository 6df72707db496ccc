package torture

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/Shopify/toxiproxy/v2/toxics"

	"github.com/outboxd/outboxd/internal/testenv"
)

// corruptToxic flips a bit of some of the pieces that a connection carries. The connections of the instances are secured by TLS, which notices each;
// without it nobody could: the checksum of TCP lies below the proxy, and of the protocols only Pulsar's has one, of messages alone.
type corruptToxic struct {
	Seed  uint64 `json:"seed"`
	Every int    `json:"every"` // one piece in so many
}

func init() { toxics.Register("corrupt", new(corruptToxic)) }

// Pipe passes the pieces on.
func (c *corruptToxic) Pipe(stub *toxics.ToxicStub) {
	random := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // repeatable
	for {
		select {
		case <-stub.Interrupt:
			return
		case piece := <-stub.Input:
			if piece == nil {
				stub.Close()
				return
			}
			if len(piece.Data) > 0 && random.IntN(c.Every) == 0 {
				piece.Data[random.IntN(len(piece.Data))] ^= 1 << random.IntN(8)
			}
			stub.Output <- piece
		}
	}
}

// corrupt flips bits of what a leg carries, in both directions.
func corrupt(leg string) injection {
	return func(r *rig, random *rand.Rand) (string, heal, error) {
		i, on := r.pick(random)
		befalls, every := drawShare(random), 1+random.IntN(20)
		attributes := fmt.Sprintf(`{"seed": %d, "every": %d}`, random.Uint32(), every)
		cure, err := poison(r.network.proxy(i.number, leg), befalls, toxic{"corrupt", "upstream", attributes}, toxic{"corrupt", "downstream", attributes})
		return fmt.Sprintf("%s, %s, one bit in %d pieces", on, befalls, every), cure, err
	}
}

func TestCorruptConnectionHasOtherBits(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for conn, err := echo.Accept(); err == nil; conn, err = echo.Accept() {
			_, _ = io.Copy(conn, conn) // its end ends the copy
			conn.Close()
		}
	}()
	n := newNetwork()
	defer n.close()
	if err := n.open(0, legBroker, testenv.FreeAddress(t), echo.Addr().String()); err != nil {
		t.Fatal(err)
	}
	proxy, sent := n.proxy(0, legBroker), []byte("sixteen bytes ..")
	back := func() []byte {
		conn, err := net.Dial("tcp", proxy.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		received := make([]byte, len(sent))
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, received); err != nil {
			t.Fatal(err)
		}
		return received
	}
	cure, err := poison(proxy, everyConnection, toxic{"corrupt", "downstream", `{"seed": 7, "every": 1}`})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(back(), sent) {
		t.Error("nothing is changed")
	}
	if err := cure(); err != nil || !bytes.Equal(back(), sent) {
		t.Errorf("it is not healed: %v", err)
	}
}
