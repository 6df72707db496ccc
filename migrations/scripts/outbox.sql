{{- $table := ident .TableSchema .Table -}}
-- The outbox table, where there is none. A table that is there stays as it is.
DO $outboxd$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = {{literal .TableSchema}} AND c.relname = {{literal .Table}}) THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {{literal .TableSchema}}) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_schema_name', MESSAGE = {{literal (missingSchema .TableSchema)}};
    END IF;
    IF to_regprocedure('gen_random_uuid()') IS NULL THEN
        CREATE EXTENSION IF NOT EXISTS pgcrypto; -- PostgreSQL 12; later versions have it built in
    END IF;
    CREATE TABLE {{$table}} (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        tenant_id VARCHAR(128) NOT NULL,
        aggregate_id VARCHAR(128),
        aggregate_type VARCHAR(100),
        topic VARCHAR(128) NOT NULL,
        occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
        schema_id VARCHAR(128),
        schema_version INTEGER DEFAULT 1,
        payload JSONB NOT NULL,
        event_metadata JSONB DEFAULT '{}',
        status VARCHAR(10) DEFAULT 'NEW',
        retry_count INTEGER DEFAULT 0,
        retry_after TIMESTAMP WITH TIME ZONE,
        error_message VARCHAR(500),
        created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW()
    ){{if eq .Indexes "lean"}} WITH (fillfactor = 60){{end}};
{{- if eq .Indexes "lean"}}
    CREATE INDEX {{indexName .Table "retry_after"}} ON {{$table}}(retry_after) WHERE retry_after IS NOT NULL;
{{- else}}
    CREATE INDEX {{indexName .Table "tenant_id_status"}} ON {{$table}}(tenant_id, status);
    CREATE INDEX {{indexName .Table "processing"}} ON {{$table}}(status, retry_after);
    CREATE INDEX {{indexName .Table "topic"}} ON {{$table}}(topic);
    CREATE INDEX {{indexName .Table "aggregate"}} ON {{$table}}(aggregate_type, aggregate_id);
    CREATE INDEX {{indexName .Table "cleanup"}} ON {{$table}}(tenant_id, created_at);
    CREATE INDEX {{indexName .Table "query_opt"}} ON {{$table}}(status, retry_after, tenant_id);
    CREATE INDEX {{indexName .Table "tenant_created"}} ON {{$table}}(tenant_id, created_at, status);
    CREATE INDEX {{indexName .Table "processing_tenant"}} ON {{$table}}(tenant_id, status, retry_count);
{{- end}}
END
$outboxd$;
