{{- $role := ident .Role.Name -}}
{{- $table := ident .TableSchema .Table -}}
{{- $rows := "" -}}
{{- if .Role.Rows}}{{$rows = printf " WHERE (%s)" .Role.Rows}}{{end -}}
-- The role that outboxd runs as, with the rights it needs and no others.
-- Run this as the owner of {{$table}} (a publication needs that) or as a superuser.
-- The role also needs a password or a certificate, and a line in pg_hba.conf for this database.
BEGIN;
DO $outboxd$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{literal .Role.Name}}) THEN
        CREATE ROLE {{$role}} LOGIN REPLICATION;
    ELSIF NOT (SELECT o.rolcanlogin AND (o.rolsuper OR o.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles r
            WHERE r.rolname = 'rds_replication' AND pg_catalog.pg_has_role(o.oid, r.oid, 'MEMBER')))
            FROM pg_catalog.pg_roles o WHERE o.rolname = {{literal .Role.Name}}) THEN
        RAISE WARNING 'the role needs LOGIN and REPLICATION: ALTER ROLE % LOGIN REPLICATION', {{literal $role}}
            USING HINT = 'Only a superuser may; on Amazon RDS: GRANT rds_replication TO the role.';
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE insufficient_privilege USING MESSAGE = format('role %s cannot be made: %s', {{literal $role}}, SQLERRM),
        HINT = 'Let somebody make it who may, CREATE ROLE with LOGIN REPLICATION (on Amazon RDS: with LOGIN, and GRANT rds_replication TO it), and run this again.';
END
$outboxd$;
DO $outboxd$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {{literal .Role.Name}});
END
$outboxd$;

-- outboxd's own tables. Locking the lease FOR SHARE needs UPDATE.
GRANT USAGE ON SCHEMA {{ident .Schema}} TO {{$role}};
{{- range .Objects}}
GRANT {{join .Rights ", "}} ON {{if .Sequence}}SEQUENCE {{end}}{{ident $.Schema .Name}} TO {{$role}};
{{- end}}

-- The outbox table, for on_sent: {{.Role.OnSent}}.
GRANT USAGE ON SCHEMA {{ident .TableSchema}} TO {{$role}};
GRANT SELECT ON {{$table}} TO {{$role}};
{{- if eq .Role.OnSent "delete"}}
GRANT DELETE ON {{$table}} TO {{$role}};
{{- else}}
GRANT DELETE ON {{$table}} TO {{$role}}; -- old rows, in a cleanup; leave it out where outboxd is to delete nothing
{{- end}}
{{- if ne .Role.OnSent "keep"}}
-- What becomes of an event is shown in these columns, as far as the table has them.
DO $outboxd$
DECLARE
    changed name;
BEGIN
    FOR changed IN SELECT attname FROM pg_catalog.pg_attribute
        WHERE attrelid = {{literal $table}}::regclass AND attnum > 0 AND NOT attisdropped
            AND attname IN ({{range $i, $column := .Role.Columns}}{{if $i}}, {{end}}{{literal $column}}{{end}})
    LOOP
        EXECUTE format('GRANT UPDATE (%I) ON %s TO %I', changed, {{literal $table}}, {{literal .Role.Name}});
    END LOOP;
END
$outboxd$;
{{- end}}

-- The publication. The slot comes after it, and outboxd makes it itself.
DO $outboxd$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {{literal .Role.Publication}}) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_partitioned_table WHERE partrelid = {{literal $table}}::regclass) THEN
        CREATE PUBLICATION {{ident .Role.Publication}} FOR TABLE {{$table}}{{$rows}}
            WITH (publish = 'insert', publish_via_partition_root = true); -- PostgreSQL 13 and later
    ELSE
        CREATE PUBLICATION {{ident .Role.Publication}} FOR TABLE {{$table}}{{$rows}} WITH (publish = 'insert');
    END IF;
END
$outboxd$;
COMMIT;
