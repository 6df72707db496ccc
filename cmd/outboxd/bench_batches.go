package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/outboxd/outboxd/internal/bench"
)

// batches asks outboxd how large its batches were: what a call or a statement costs is shared by the events in it.
func batches(ctx context.Context, addr string, run *bench.Run) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask outboxd for its metrics: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask outboxd for its metrics: %w", err)
	}
	if publishes := metric(string(text), "outboxd_publish_seconds_count"); publishes > 0 {
		run.PerPublish = float64(run.Entries) / publishes
	}
	if statements := metric(string(text), "outboxd_settle_seconds_count"); statements > 0 {
		run.PerSettle = metric(string(text), "outboxd_settled_rows_total") / statements
	}
	return nil
}

// metric is the sum of all series of the name.
func metric(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		fields := strings.Fields(rest)
		if value, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			sum += value
		}
	}
	return sum
}
