{{- $role := ident .Role.Name -}}
{{- $table := ident .TableSchema .Table -}}
-- The role that outboxd runs as, with the rights it needs and no others.
-- Run this as the owner of {{$table}} (a publication needs that) or as a superuser.
-- The role also needs a password or a certificate, and a line in pg_hba.conf for this database.
BEGIN;
DO $outboxd$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{literal .Role.Name}}) THEN
        CREATE ROLE {{$role}} LOGIN REPLICATION;
    ELSIF NOT (SELECT rolreplication AND rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = {{literal .Role.Name}}) THEN
        -- Only a superuser may; managed services have their own way (on Amazon RDS: GRANT rds_replication TO the role).
        RAISE WARNING 'the role needs LOGIN and REPLICATION: ALTER ROLE % LOGIN REPLICATION', {{literal $role}};
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {{literal .Role.Name}});
END
$outboxd$;

-- outboxd's own tables. Locking the lease FOR SHARE needs UPDATE.
GRANT USAGE ON SCHEMA {{ident .Schema}} TO {{$role}};
GRANT SELECT, INSERT, UPDATE ON {{ident .Schema "lease"}}, {{ident .Schema "checkpoint"}} TO {{$role}};
GRANT SELECT ON {{ident .Schema "schema_version"}}, {{ident .Schema "schema_history"}} TO {{$role}};

-- The outbox table, for on_sent: {{.Role.OnSent}}.
GRANT USAGE ON SCHEMA {{ident .TableSchema}} TO {{$role}};
GRANT SELECT ON {{$table}} TO {{$role}};
{{- if eq .Role.OnSent "mark"}}
GRANT UPDATE ({{ident .Role.StatusColumn}}) ON {{$table}} TO {{$role}};
{{- else if eq .Role.OnSent "delete"}}
GRANT DELETE ON {{$table}} TO {{$role}};
{{- end}}

-- The publication. The slot comes after it, and outboxd makes it itself.
DO $outboxd$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {{literal .Role.Publication}}) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_partitioned_table WHERE partrelid = {{literal $table}}::regclass) THEN
        CREATE PUBLICATION {{ident .Role.Publication}} FOR TABLE {{$table}}
            WITH (publish = 'insert', publish_via_partition_root = true); -- PostgreSQL 13 and later
    ELSE
        CREATE PUBLICATION {{ident .Role.Publication}} FOR TABLE {{$table}} WITH (publish = 'insert');
    END IF;
END
$outboxd$;
COMMIT;
