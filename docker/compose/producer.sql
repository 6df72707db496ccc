-- One transaction of ten events, again and again, ten times a second (\watch). Three tenants, a hundred orders each.
INSERT INTO outbox (tenant_id, aggregate_type, aggregate_id, topic, occurred_at, payload)
SELECT tenant, 'order', number::text, topic, now(), jsonb_build_object('order', number, 'state', topic)
  FROM (SELECT (ARRAY['acme', 'globex', 'initech'])[1 + (random() * 2)::int] AS tenant, (random() * 99)::int AS number,
               (ARRAY['order.created', 'order.paid', 'stock.changed'])[1 + (random() * 2)::int] AS topic
          FROM generate_series(1, 10)) AS events
\watch 0.1
