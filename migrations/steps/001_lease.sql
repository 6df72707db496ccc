CREATE TABLE {{.schema}}.lease (
    slot text PRIMARY KEY,
    term bigint NOT NULL CHECK (term > 0),
    holder text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {{.schema}}.lease IS
    'outboxd: which session may write. Each session raises the term; every write locks this row FOR SHARE and checks it.';

---- create above / drop below ----

DROP TABLE {{.schema}}.lease;
