//! Where registrations are counted. One statement counts a guess; every other change is compare-and-set on the
//! registration's version; each raises the database's generation in the same transaction.

use halfkey_envelope::{
    door::{State, Ticket, Ver},
    id::BackupId,
};

use crate::{
    database::{Database, on},
    guess::{Registration, Rules},
};

const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS meta (
        id BIGINT PRIMARY KEY, format BIGINT NOT NULL, database BYTES NOT NULL, generation BIGINT NOT NULL,
        window_start BIGINT NOT NULL, window_wrong BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS registration (
        backup BYTES PRIMARY KEY, ver BYTES NOT NULL, state BIGINT NOT NULL, version BIGINT NOT NULL,
        max_guesses BIGINT NOT NULL, attempts BIGINT NOT NULL, wrong_before BIGINT NOT NULL,
        not_before BIGINT NOT NULL, counted_at BIGINT NOT NULL, last_blinded BYTES, ticket BYTES,
        proven BIGINT NOT NULL, sealed BYTES, digest BYTES NOT NULL)",
];

/// The layout of these tables. Another one is refused.
const FORMAT: i64 = 1;
const HOUR_MS: u64 = 3_600_000;

/// The database behind the door.
#[derive(Clone)]
pub struct Store {
    database: Database,
}

/// What stands about one backup, and how far the database had come when it was read.
pub struct Loaded {
    /// The counted part.
    pub registration: Registration,
    /// The sealed secrets; gone when destroyed.
    pub sealed: Option<Vec<u8>>,
    /// Of the message that registered it.
    pub digest: Vec<u8>,
}

/// What became of an attempt to count.
pub enum Counted {
    /// Counted, durably; the registration as it is now, and the database's generation.
    Yes(Registration, u64),
    /// The registration changed meanwhile and allows no guess: look again.
    No,
    /// Too many wrong guesses in the whole deployment. Nothing was counted.
    Overloaded,
}

type Columns = (Vec<u8>, Vec<u8>, i64, i64, i64, i64, i64, i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, i64);
const SELECT: &str = "SELECT backup, ver, state, version, max_guesses, attempts, wrong_before, not_before,
    counted_at, last_blinded, ticket, proven FROM registration WHERE backup = $1";
const SELECT_SEALED: &str = "SELECT sealed, digest FROM registration WHERE backup = $1 AND version = $2";
const GENERATION: &str = "SELECT generation FROM meta WHERE id = 1";
const RAISE: &str = "UPDATE meta SET generation = generation + 1 WHERE id = 1 RETURNING generation";

/// METHODS.md B: one statement, durable before the answer leaves.
const COUNT: &str = "UPDATE registration SET attempts = attempts + 1, version = version + 1, counted_at = $1,
        last_blinded = $2, ticket = $3,
        not_before = CASE attempts + 1 WHEN 3 THEN $4 WHEN 4 THEN $5 WHEN 5 THEN $6 WHEN 6 THEN $7
            WHEN 7 THEN $8 WHEN 8 THEN $9 WHEN 9 THEN $10 ELSE 0 END
    WHERE backup = $11 AND ver = $12 AND state IN (0, 1) AND attempts < max_guesses AND not_before <= $1
        AND (last_blinded IS NULL OR last_blinded <> $2)
    RETURNING backup, ver, state, version, max_guesses, attempts, wrong_before, not_before, counted_at,
        last_blinded, ticket, proven";
/// In the same transaction: no row means that the deployment has seen too many wrong guesses this hour.
const COUNT_FOR_ALL: &str = "UPDATE meta SET generation = generation + 1,
        window_wrong = CASE WHEN window_start < $1 THEN 1 ELSE window_wrong + 1 END,
        window_start = CASE WHEN window_start < $1 THEN $1 ELSE window_start END
    WHERE id = 1 AND (window_start < $1 OR window_wrong < $2) RETURNING generation";
const UNCOUNT_FOR_ALL: &str = "UPDATE meta SET generation = generation + 1, window_wrong =
        CASE WHEN window_start = $1 AND window_wrong > 0 THEN window_wrong - 1 ELSE window_wrong END
    WHERE id = 1 RETURNING generation";
const REPLACE: &str = "UPDATE registration SET state = $1, version = $2, attempts = $3, wrong_before = $4,
        not_before = $5, last_blinded = $6, ticket = $7, proven = $8,
        sealed = CASE WHEN $9 = 1 THEN NULL ELSE sealed END
    WHERE backup = $10 AND version = $11";
const INSERT: &str = "INSERT INTO registration (backup, ver, state, version, max_guesses, attempts, wrong_before,
        not_before, counted_at, proven, sealed, digest)
    VALUES ($1, $2, 0, 1, $3, 0, 0, 0, 0, 0, $4, $5) ON CONFLICT (backup) DO NOTHING";
const OVERDUE: &str = "SELECT backup FROM registration
    WHERE state IN (0, 1) AND attempts >= max_guesses AND counted_at <= $1 ORDER BY counted_at LIMIT 100";
/// After a restore at most `$1` guesses are left to each.
const LEAVE_FEW: &str = "UPDATE registration SET attempts = max_guesses - $1, version = version + 1
    WHERE state IN (0, 1) AND attempts < max_guesses - $1";
const BURY: &str = "UPDATE registration SET state = $1, version = version + 1, sealed = NULL, last_blinded = NULL,
        ticket = NULL WHERE backup = $2 AND state IN (0, 1)";

impl Store {
    /// Opens the database and makes what is missing.
    pub async fn open(url: &str, fresh_id: [u8; 16]) -> Result<Self, sqlx::Error> {
        let database = Database::open(url, "guesskeeper", &TABLES).await?;
        let first = "INSERT INTO meta (id, format, database, generation, window_start, window_wrong)
            VALUES (1, $1, $2, 0, 0, 0) ON CONFLICT (id) DO NOTHING";
        on!(&database, pool => { sqlx::query(first).bind(FORMAT).bind(fresh_id.to_vec()).execute(pool).await?; });
        let store = Self { database };
        let query = "SELECT format FROM meta WHERE id = 1";
        let format: i64 = on!(&store.database, pool => sqlx::query_scalar(query).fetch_one(pool).await?);
        if format == FORMAT { Ok(store) } else { Err(sqlx::Error::Decode("unknown layout of the database".into())) }
    }

    /// The database itself.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// The id that the database got when it was made.
    pub async fn id(&self) -> Result<[u8; 16], sqlx::Error> {
        let query = "SELECT database FROM meta WHERE id = 1";
        let id: Vec<u8> = on!(&self.database, pool => sqlx::query_scalar(query).fetch_one(pool).await?);
        id.try_into().map_err(|_| damaged())
    }

    /// How far the database has come.
    pub async fn generation(&self) -> Result<u64, sqlx::Error> {
        let generation: i64 = on!(&self.database, pool => sqlx::query_scalar(GENERATION).fetch_one(pool).await?);
        unsigned(generation)
    }

    /// How many registrations there ever were, the destroyed ones included.
    pub async fn len(&self) -> Result<u64, sqlx::Error> {
        let query = "SELECT COUNT(*) FROM registration";
        unsigned(on!(&self.database, pool => sqlx::query_scalar(query).fetch_one(pool).await?))
    }

    /// What stands about a backup.
    pub async fn load(&self, backup: BackupId) -> Result<Option<Loaded>, sqlx::Error> {
        let id = backup.as_bytes().to_vec();
        loop {
            let row: Option<Columns> = on!(&self.database, pool => {
                sqlx::query_as(SELECT).bind(&id).fetch_optional(pool).await?
            });
            let Some(row) = row else {
                return Ok(None);
            };
            let registration = registration(row)?;
            let version = signed(registration.version);
            let sealed: Option<(Option<Vec<u8>>, Vec<u8>)> = on!(&self.database, pool => {
                sqlx::query_as(SELECT_SEALED).bind(&id).bind(version).fetch_optional(pool).await?
            });
            if let Some((sealed, digest)) = sealed {
                return Ok(Some(Loaded { registration, sealed, digest }));
            }
        }
    }

    /// Keeps a new registration, pending; `None` if the backup id is taken.
    pub async fn insert(
        &self,
        new: &Registration,
        sealed: &[u8],
        digest: &[u8; 32],
    ) -> Result<Option<u64>, sqlx::Error> {
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            let done = sqlx::query(INSERT)
                .bind(new.backup.as_bytes().to_vec())
                .bind(new.ver.as_bytes().to_vec())
                .bind(i64::from(new.max_guesses))
                .bind(sealed)
                .bind(digest.to_vec())
                .execute(&mut *transaction)
                .await?;
            if done.rows_affected() == 0 {
                return Ok(None);
            }
            let generation: i64 = sqlx::query_scalar(RAISE).fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            unsigned(generation).map(Some)
        })
    }

    /// Counts one guess.
    pub async fn count(
        &self,
        old: &Registration,
        blinded: &[u8; 32],
        ticket: Ticket,
        now_ms: u64,
        rules: &Rules,
    ) -> Result<Counted, sqlx::Error> {
        let until = rules.delays_ms.map(|delay| if delay == 0 { 0 } else { signed(now_ms.saturating_add(delay)) });
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            let mut query = sqlx::query_as(COUNT)
                .bind(signed(now_ms))
                .bind(blinded.to_vec())
                .bind(ticket.as_bytes().to_vec());
            for until in until {
                query = query.bind(until);
            }
            let query = query.bind(old.backup.as_bytes().to_vec()).bind(old.ver.as_bytes().to_vec());
            let row: Option<Columns> = query.fetch_optional(&mut *transaction).await?;
            let Some(row) = row else {
                return Ok(Counted::No);
            };
            let generation: Option<i64> = sqlx::query_scalar(COUNT_FOR_ALL)
                .bind(signed(window(now_ms)))
                .bind(i64::from(rules.wrong_per_hour))
                .fetch_optional(&mut *transaction)
                .await?;
            let Some(generation) = generation else {
                transaction.rollback().await?;
                return Ok(Counted::Overloaded);
            };
            transaction.commit().await?;
            Ok(Counted::Yes(registration(row)?, unsigned(generation)?))
        })
    }

    /// Stores what [`crate::guess::apply`] decided about `old`; `None` if it is not what stands there any more.
    pub async fn replace(&self, old: &Registration, new: &Registration) -> Result<Option<u64>, sqlx::Error> {
        let shown = new.attempts < old.attempts;
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            let done = sqlx::query(REPLACE)
                .bind(new.state as i64)
                .bind(signed(new.version))
                .bind(i64::from(new.attempts))
                .bind(i64::from(new.wrong_before))
                .bind(signed(new.not_before_ms))
                .bind(new.last_blinded.map(|element| element.to_vec()))
                .bind(new.ticket.map(|ticket| ticket.as_bytes().to_vec()))
                .bind(i64::from(new.proven))
                .bind(i64::from(!new.is_live()))
                .bind(old.backup.as_bytes().to_vec())
                .bind(signed(old.version))
                .execute(&mut *transaction)
                .await?;
            if done.rows_affected() == 0 {
                return Ok(None);
            }
            let generation: i64 = if shown {
                let counted_in = signed(window(old.counted_at_ms));
                sqlx::query_scalar(UNCOUNT_FOR_ALL).bind(counted_in).fetch_one(&mut *transaction).await?
            } else {
                sqlx::query_scalar(RAISE).fetch_one(&mut *transaction).await?
            };
            transaction.commit().await?;
            unsigned(generation).map(Some)
        })
    }

    /// Registrations whose last tag did not come in time.
    pub async fn overdue(&self, now_ms: u64, rules: &Rules) -> Result<Vec<BackupId>, sqlx::Error> {
        let before = signed(now_ms.saturating_sub(rules.last_tag_ms));
        let rows: Vec<Vec<u8>> = on!(&self.database, pool => {
            sqlx::query_scalar(OVERDUE).bind(before).fetch_all(pool).await?
        });
        rows.into_iter().map(|id| id.try_into().map(BackupId::from_bytes).map_err(|_| damaged())).collect()
    }

    /// After a restore: few guesses left each, tombstones re-applied, and a generation above every anchor. One
    /// transaction.
    pub async fn after_restore(
        &self,
        guesses: u32,
        tombstones: &[(BackupId, State)],
        generation: u64,
    ) -> Result<(), sqlx::Error> {
        on!(&self.database, pool => {
            let mut transaction = pool.begin().await?;
            sqlx::query(LEAVE_FEW).bind(i64::from(guesses)).execute(&mut *transaction).await?;
            for (backup, state) in tombstones {
                let bury = sqlx::query(BURY).bind(*state as i64).bind(backup.as_bytes().to_vec());
                bury.execute(&mut *transaction).await?;
            }
            let raise = "UPDATE meta SET generation = $1 WHERE id = 1";
            sqlx::query(raise).bind(signed(generation)).execute(&mut *transaction).await?;
            transaction.commit().await
        })
    }
}

const fn window(now_ms: u64) -> u64 {
    now_ms / HOUR_MS * HOUR_MS
}

fn registration(row: Columns) -> Result<Registration, sqlx::Error> {
    let (backup, ver, state, version, max, attempts, wrong_before, not_before, counted_at, blinded, ticket, proven) =
        row;
    let state = match state {
        0 => State::Pending,
        1 => State::Active,
        2 => State::LockedOut,
        3 => State::Erased,
        _ => return Err(damaged()),
    };
    let small = |number: i64| u32::try_from(number).map_err(|_| damaged());
    let last_blinded = blinded.map(|element| element.try_into().map_err(|_| damaged())).transpose()?;
    let ticket = ticket.map(|ticket| ticket.try_into().map(Ticket::from_bytes).map_err(|_| damaged())).transpose()?;
    Ok(Registration {
        backup: BackupId::from_bytes(backup.try_into().map_err(|_| damaged())?),
        ver: Ver::from_bytes(ver.try_into().map_err(|_| damaged())?),
        state,
        version: unsigned(version)?,
        max_guesses: small(max)?,
        attempts: small(attempts)?,
        wrong_before: small(wrong_before)?,
        not_before_ms: unsigned(not_before)?,
        counted_at_ms: unsigned(counted_at)?,
        last_blinded,
        ticket,
        proven: proven != 0,
    })
}

fn damaged() -> sqlx::Error {
    sqlx::Error::Decode("a stored registration is damaged".into())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, sqlx::Error> {
    u64::try_from(number).map_err(|_| damaged())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::guess::{Event, apply};
    use halfkey_envelope::entropy::{DangerSeededEntropy, random};

    /// The counting statement is the only rule that stands twice, in SQL and in [`apply`]: whatever happens, both
    /// say the same.
    #[tokio::test]
    async fn the_counting_statement_is_the_pure_rule() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("guesses.sqlite").display());
        let store = Store::open(&url, [1; 16]).await.unwrap();
        let entropy = &mut DangerSeededEntropy::new(5);
        let rules = Rules { wrong_per_hour: u32::MAX, ..Rules::default() };
        let (mut now, mut counted, mut refused) = (1_000, 0, 0);
        for backup in 0..12u8 {
            let max_guesses = 1 + u32::from(backup) % 10;
            let fresh = Registration {
                backup: BackupId::from_bytes([backup; 16]),
                ver: Ver::from_bytes([backup; 16]),
                state: State::Pending,
                version: 1,
                max_guesses,
                attempts: 0,
                wrong_before: 0,
                not_before_ms: 0,
                counted_at_ms: 0,
                last_blinded: None,
                ticket: None,
                proven: false,
            };
            store.insert(&fresh, b"sealed", &[0; 32]).await.unwrap().unwrap();
            let mut stands = fresh;
            for _ in 0..40 {
                let [element, kind, hours, minutes] = *random::<4>(entropy);
                now += u64::from(hours) % 30 * 3_600_000 * u64::from(kind % 2) + u64::from(minutes) * 1_000;
                let (blinded, ticket) = ([element % 4; 32], Ticket::generate(entropy));
                let decided = apply(&stands, Event::Guess { blinded, ticket }, now, &rules);
                let stored = store.count(&stands, &blinded, ticket, now, &rules).await.unwrap();
                let overdue = stands.attempts >= max_guesses;
                match (decided, stored) {
                    (Ok(decided), Counted::Yes(stored, _)) => {
                        assert_eq!(stored, decided);
                        assert_eq!(store.load(stored.backup).await.unwrap().unwrap().registration, decided);
                        (stands, counted) = (decided, counted + 1);
                    }
                    (Ok(repeat), Counted::No) => assert_eq!(repeat, stands, "a repeat is not counted"),
                    (Err(_), Counted::No) => refused += 1,
                    (decided, _) => panic!("SQL and rule differ: {decided:?}"),
                }
                if kind % 16 == 0
                    && !overdue
                    && let Some(ticket) = stands.ticket
                {
                    let shown = apply(&stands, Event::TagShown { ticket }, now, &rules).unwrap();
                    if shown.version > stands.version {
                        store.replace(&stands, &shown).await.unwrap().unwrap();
                        stands = shown;
                    }
                }
            }
        }
        assert!(counted > 50 && refused > 50, "both ways were taken: {counted} {refused}");
        assert!(store.generation().await.unwrap() > counted, "every count raises the generation");
    }
}
