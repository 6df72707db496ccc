ALTER TABLE {{.schema}}.checkpoint ADD COLUMN routing jsonb;
COMMENT ON COLUMN {{.schema}}.checkpoint.routing IS
    'outboxd: by which routes, and to how many partitions, events behind confirmed_lsn may have been given to destinations; NULL: none was published';
-- What the versions before have published they did not say.
UPDATE {{.schema}}.checkpoint SET routing = '{"routes": "", "mixed": true}';

---- create above / drop below ----

ALTER TABLE {{.schema}}.checkpoint DROP COLUMN routing;
