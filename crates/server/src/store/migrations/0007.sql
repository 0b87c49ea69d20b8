-- When a drill found that the backup does not hold; gone once one passes.
ALTER TABLE pairs ADD COLUMN failed_ms BIGINT;
