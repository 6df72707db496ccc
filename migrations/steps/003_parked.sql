CREATE SEQUENCE {{.schema}}.replay_number AS integer;
COMMENT ON SEQUENCE {{.schema}}.replay_number IS
    'outboxd: numbers of replays. Each delivery of an event beyond its first has a number of its own, by which it is told apart in a tail.';
-- From the seconds since 2020 on: a schema that is made anew, or for another layout of shards, must not give numbers again that the tails still hold.
DO $$BEGIN
    PERFORM setval(tableoid::regclass, greatest(1, extract(epoch FROM clock_timestamp())::bigint - 1577836800), false) FROM {{.schema}}.replay_number;
END$$;

CREATE TABLE {{.schema}}.parked (
    slot text NOT NULL,
    id text NOT NULL,
    replay integer NOT NULL DEFAULT 0 CHECK (replay >= 0),
    sink text NOT NULL,
    destination text NOT NULL,
    target text NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'dead', 'skipped', 'done')),
    epoch bigint NOT NULL,
    commit_lsn pg_lsn NOT NULL,
    ordinal bigint NOT NULL,
    key_hash bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    reason text,
    blocks boolean NOT NULL DEFAULT false,
    landed_epoch bigint,
    landed_lsn pg_lsn,
    landed_ordinal bigint,
    parked_at timestamptz NOT NULL DEFAULT now(),
    committed_at timestamptz,
    bytes integer NOT NULL,
    tenant_id text,
    topic text,
    aggregate_type text,
    aggregate_id text,
    occurred_at text,
    schema_id text,
    schema_version text,
    payload text,
    metadata text,
    PRIMARY KEY (slot, id, replay, sink, destination)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE {{.schema}}.parked IS
    'outboxd: events that wait for a destination, with their full copy. One row per event, replay and destination.';
COMMENT ON COLUMN {{.schema}}.parked.target IS 'the name that the route gave; destination is the partition of it, where it has several';
COMMENT ON COLUMN {{.schema}}.parked.blocks IS 'a dead event that holds back the later ones of its key (on_dead: block)';
COMMENT ON COLUMN {{.schema}}.parked.landed_lsn IS
    'with landed_epoch and landed_ordinal: the event may have landed, behind this position; NULL: it has not';

-- Which rows wait, in order; and those of each key, with the dead ones that hold it back.
CREATE INDEX parked_order ON {{.schema}}.parked (slot, sink, destination, epoch, commit_lsn, ordinal, id, replay) WHERE state = 'waiting';
CREATE INDEX parked_key ON {{.schema}}.parked (slot, sink, destination, key_hash, epoch, commit_lsn, ordinal, id, replay)
    WHERE state = 'waiting' OR (state = 'dead' AND blocks);
CREATE INDEX parked_doubt ON {{.schema}}.parked (slot, sink, destination) WHERE landed_epoch IS NOT NULL;
CREATE INDEX parked_finished ON {{.schema}}.parked (slot, id) WHERE state IN ('done', 'skipped');
CREATE INDEX parked_dead ON {{.schema}}.parked (slot, parked_at) WHERE state = 'dead';

CREATE TYPE {{.schema}}.parked_row AS (
    id text, replay integer, sink text, destination text, target text, state text, epoch bigint, commit_lsn pg_lsn, ordinal bigint,
    key_hash bigint, attempts integer, due_at timestamptz, reason text, blocks boolean, landed_epoch bigint, landed_lsn pg_lsn,
    landed_ordinal bigint, committed_at timestamptz, bytes integer, tenant_id text, topic text, aggregate_type text, aggregate_id text,
    occurred_at text, schema_id text, schema_version text, payload text, metadata text
);
COMMENT ON TYPE {{.schema}}.parked_row IS 'outboxd: what it sends to park events: one array of these';

CREATE TABLE {{.schema}}.audit (
    at timestamptz NOT NULL DEFAULT now(),
    slot text NOT NULL,
    id text NOT NULL,
    sink text NOT NULL,
    destination text NOT NULL,
    action text NOT NULL,
    by_role text NOT NULL DEFAULT current_user,
    note text NOT NULL DEFAULT ''
);
CREATE INDEX audit_id ON {{.schema}}.audit (slot, id);
COMMENT ON TABLE {{.schema}}.audit IS 'outboxd: what people did to events: retry, skip, replay.';

ALTER TABLE {{.schema}}.checkpoint
    ADD COLUMN adopt_snapshot text,
    ADD COLUMN adopt_after text,
    ADD COLUMN adopt_epoch bigint,
    ADD COLUMN landed_epoch bigint,
    ADD COLUMN landed_lsn pg_lsn,
    ADD COLUMN skipped_snapshot text,
    ADD COLUMN settled_snapshot text;
COMMENT ON COLUMN {{.schema}}.checkpoint.adopt_snapshot IS
    'rows that this snapshot of the slot''s beginning sees are older than its log; NULL when all of them are adopted';
COMMENT ON COLUMN {{.schema}}.checkpoint.adopt_after IS 'id of the last row that was looked at';
COMMENT ON COLUMN {{.schema}}.checkpoint.landed_lsn IS
    'with landed_epoch: the checkpoint of the slot before, behind which adopted rows may have landed';
COMMENT ON COLUMN {{.schema}}.checkpoint.skipped_snapshot IS 'rows that it sees were left alone on request (run --skip-backlog)';
COMMENT ON COLUMN {{.schema}}.checkpoint.settled_snapshot IS
    'with on_sent: keep: rows that it sees are below the confirmed position';

---- create above / drop below ----

ALTER TABLE {{.schema}}.checkpoint
    DROP COLUMN adopt_snapshot, DROP COLUMN adopt_after, DROP COLUMN adopt_epoch, DROP COLUMN landed_epoch, DROP COLUMN landed_lsn,
    DROP COLUMN skipped_snapshot, DROP COLUMN settled_snapshot;
DROP TABLE {{.schema}}.audit;
DROP TABLE {{.schema}}.parked;
DROP TYPE {{.schema}}.parked_row;
DROP SEQUENCE {{.schema}}.replay_number;
