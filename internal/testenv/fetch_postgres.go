package testenv

import (
	"context"
	"fmt"
	"io"
)

func fetchPostgres(_ context.Context, major int, _ io.Writer) (postgresBinaries, error) {
	return postgresBinaries{}, fmt.Errorf("PostgreSQL %d: %w", major, ErrUnavailable)
}
