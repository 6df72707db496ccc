ALTER TABLE {{.schema}}.checkpoint ADD COLUMN routing jsonb;
COMMENT ON COLUMN {{.schema}}.checkpoint.routing IS
    'outboxd: by which routes, and to how many partitions, events behind confirmed_lsn may have been given to destinations; NULL: none was published';

---- create above / drop below ----

ALTER TABLE {{.schema}}.checkpoint DROP COLUMN routing;
