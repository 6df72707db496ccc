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
    'outboxd: the tail of the destination was read when events up to this position waited: whatever their landed_lsn says, they had not landed.';
COMMENT ON COLUMN {{.schema}}.parked.landed_lsn IS
    'with landed_epoch and landed_ordinal: the event may have landed, behind this position, unless tail_read says more; NULL: it has not';

-- Who may change what is parked may change this, the owner too, if it is another.
DO $$
DECLARE
    allowed record;
BEGIN
    FOR allowed IN SELECT DISTINCT a.grantee FROM pg_catalog.pg_class c, pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) a
        WHERE c.oid = $name${{.schema}}.parked$name$::regclass AND a.privilege_type = 'INSERT'
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON ' || $name${{.schema}}.tail_read$name$ || ' TO '
            || CASE allowed.grantee WHEN 0 THEN 'PUBLIC' ELSE allowed.grantee::regrole::text END;
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
