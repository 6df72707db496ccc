-- Step {{.Step.Sequence}}: {{.Step.Name}}
DO $outboxd$
BEGIN
    IF (SELECT version FROM {{ident .Schema "schema_version"}}) < {{.Step.Sequence}} THEN
{{.Step.UpSQL}}
UPDATE {{ident .Schema "schema_version"}} SET version = {{.Step.Sequence}};
    END IF;
END
$outboxd$;
