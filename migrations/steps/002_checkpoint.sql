CREATE TABLE {{.schema}}.checkpoint (
    slot text PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch BETWEEN 1 AND 4294967295),
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    confirmed_lsn pg_lsn NOT NULL,
    confirmed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {{.schema}}.checkpoint IS
    'outboxd: where the stream of a slot starts. Written before the slot is confirmed; an epoch never goes back.';

---- create above / drop below ----

DROP TABLE {{.schema}}.checkpoint;
