CREATE TABLE {{.schema}}.tail_read (
    slot text NOT NULL,
    sink text NOT NULL,
    destination text NOT NULL,
    epoch bigint NOT NULL,
    commit_lsn pg_lsn NOT NULL,
    ordinal bigint NOT NULL,
    PRIMARY KEY (slot, sink, destination)
);
COMMENT ON TABLE {{.schema}}.tail_read IS
    'outboxd: no event that waits for the destination at or below this position has landed, whatever its landed_lsn says: the tail was read since.';

-- Who may change what is parked may change this.
DO $$
DECLARE
    allowed record;
BEGIN
    FOR allowed IN SELECT DISTINCT a.grantee FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
        WHERE c.oid = $name${{.schema}}.parked$name$::regclass AND a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON ' || $name${{.schema}}.tail_read$name$ || ' TO ' || allowed.grantee::regrole;
    END LOOP;
END$$;

DROP INDEX {{.schema}}.parked_doubt;
-- The condition is in a form that only the same one implies. A planner without statistics takes this index else for as good as parked_order,
-- where it is asked for the first rows that wait, and reads and sorts all of them.
DROP INDEX {{.schema}}.parked_key;
CREATE INDEX parked_key ON {{.schema}}.parked (slot, sink, destination, key_hash, epoch, commit_lsn, ordinal, id, replay)
    WHERE (state = 'waiting' OR (state = 'dead' AND blocks)) IS TRUE;

---- create above / drop below ----

DROP INDEX {{.schema}}.parked_key;
CREATE INDEX parked_key ON {{.schema}}.parked (slot, sink, destination, key_hash, epoch, commit_lsn, ordinal, id, replay)
    WHERE state = 'waiting' OR (state = 'dead' AND blocks);
CREATE INDEX parked_doubt ON {{.schema}}.parked (slot, sink, destination) WHERE landed_epoch IS NOT NULL;
DROP TABLE {{.schema}}.tail_read;
