package bench

import (
	"testing"

	"github.com/outboxd/outboxd/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
