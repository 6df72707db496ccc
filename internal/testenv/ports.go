package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken from below 32768, where no system puts the near ends of outgoing connections: a killed server finds its port free again.
const firstPort, lastPort = 15000, 32000

// freePorts returns n ports of 127.0.0.1 that nothing listens on. Another process may take one before it is used; starting is then tried again.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	held := make([]net.Listener, 0, n)
	defer func() {
		for _, listener := range held {
			_ = listener.Close() // nothing was ever accepted on it
		}
	}()
	for tries := 0; len(ports) < n; tries++ {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp4", address(port))
		if err != nil {
			if tries < 1000 {
				continue
			}
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held, ports = append(held, listener), append(ports, port)
	}
	return ports, nil
}

// FreeAddress returns 127.0.0.1 with a port that nothing listens on, from where no system puts the near ends of outgoing connections: who ends
// to listen there finds it free again.
func FreeAddress(t testing.TB) string {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return address(ports[0])
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// errPortTaken is the cause of a start that failed because another process was faster to bind the port.
var errPortTaken = errors.New("another process took the port")
