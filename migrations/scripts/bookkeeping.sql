-- The schema of outboxd's own tables, and which steps are applied to it.
DO $outboxd$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {{literal .Schema}}) THEN
        CREATE SCHEMA {{ident .Schema}};
    END IF;
    IF to_regclass({{literal (ident .Schema "schema_version")}}) IS NULL THEN
        CREATE TABLE {{ident .Schema "schema_version"}} (version integer NOT NULL);
        INSERT INTO {{ident .Schema "schema_version"}} VALUES (0);
    END IF;
    IF to_regclass({{literal (ident .Schema "schema_history")}}) IS NULL THEN
        CREATE TABLE {{ident .Schema "schema_history"}} (
            version integer PRIMARY KEY,
            name text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
    END IF;
END
$outboxd$;
