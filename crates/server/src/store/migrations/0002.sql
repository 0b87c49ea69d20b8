-- Registrations at the password door of backups that are erased: the door is told, again and again until it answers.
CREATE TABLE doors_to_close (
    backup BYTES NOT NULL PRIMARY KEY,
    since_ms BIGINT NOT NULL
) STRICT;
