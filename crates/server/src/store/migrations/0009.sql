-- What the policy asked of the user before this recovery may be used; nothing was asked where there is no time for it.
ALTER TABLE recoveries ADD COLUMN step_up_prompt TEXT;
ALTER TABLE recoveries ADD COLUMN step_up_url TEXT;
ALTER TABLE recoveries ADD COLUMN step_up_until_ms BIGINT;
ALTER TABLE recoveries ADD COLUMN step_up_confirmed_ms BIGINT;
