ALTER TABLE {{.schema}}.checkpoint ADD COLUMN routing jsonb, ADD COLUMN lost text, ADD COLUMN published text;
COMMENT ON COLUMN {{.schema}}.checkpoint.lost IS
    'outboxd: why the slot, though it is there, does not carry all that was committed since: it is made anew; NULL: it does';
COMMENT ON COLUMN {{.schema}}.checkpoint.published IS
    'outboxd: identity of the outbox table and of its publication; where it is another one, the log may lack rows, and the slot is made anew; NULL: what is there at the next start is taken for the same';
COMMENT ON COLUMN {{.schema}}.checkpoint.routing IS
    'outboxd: by which routes, and to how many partitions, events behind confirmed_lsn may have been given to destinations; NULL: none was published';
-- What the versions before have published they did not say.
UPDATE {{.schema}}.checkpoint SET routing = '{"routes": "", "mixed": true}';

---- create above / drop below ----

ALTER TABLE {{.schema}}.checkpoint DROP COLUMN routing, DROP COLUMN lost, DROP COLUMN published;
