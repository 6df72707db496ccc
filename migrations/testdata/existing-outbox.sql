-- The outbox table as existing deployments have it.
CREATE TABLE outbox (
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
);
CREATE INDEX ix_tenant_id_status ON outbox(tenant_id, status);
CREATE INDEX ix_outbox_processing ON outbox(status, retry_after);
CREATE INDEX ix_outbox_topic ON outbox(topic);
CREATE INDEX ix_outbox_aggregate ON outbox(aggregate_type, aggregate_id);
CREATE INDEX ix_outbox_cleanup ON outbox(tenant_id, created_at);
CREATE INDEX ix_outbox_query_opt ON outbox(status, retry_after, tenant_id);
CREATE INDEX ix_outbox_tenant_created ON outbox(tenant_id, created_at, status);
CREATE INDEX ix_outbox_processing_tenant ON outbox(tenant_id, status, retry_count);
