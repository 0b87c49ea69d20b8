//! The audit log: append-only, one chain per subject (a client, a custodian or the deployment), each entry bound by
//! hash to the one before. An entry is written in the transaction of what it tells.

use halfkey_envelope::hash::h;

use super::{
    Error, Store,
    sql::{Row, Tx, sql},
};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub sequence: u64,
    /// In milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub kind: String,
    /// With what, as JSON. Identifiers only, never contents.
    pub entry: String,
    /// `H(previous hash ‖ sequence ‖ time ‖ kind ‖ entry)`.
    pub hash: [u8; 32],
}

/// The end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// How many entries there are.
    pub sequence: u64,
    /// The last one's hash; of an empty chain all zero.
    pub hash: [u8; 32],
}

impl AuditHead {
    /// The head after one more entry.
    #[must_use]
    pub fn extended(self, subject: &[u8; 16], at_ms: u64, kind: &str, entry: &str) -> Self {
        let sequence = self.sequence + 1;
        let parts: [&[u8]; 6] =
            [subject, &self.hash, &sequence.to_be_bytes(), &at_ms.to_be_bytes(), kind.as_bytes(), entry.as_bytes()];
        Self { sequence, hash: h("halfkey/audit/v1/entry", &parts) }
    }
}

impl Store {
    /// Appends an entry that no other verb writes, in a transaction of its own.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn note(
        &self,
        subject: [u8; 16],
        kind: &str,
        entry: serde_json::Value,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        self.log(&mut tx, subject, kind, entry, now_ms).await?;
        tx.commit().await
    }

    /// Appends an entry to the subject's chain. Call it last: it holds the chain until the transaction ends.
    pub(super) async fn log(
        &self,
        tx: &mut Tx,
        subject: [u8; 16],
        kind: &str,
        entry: serde_json::Value,
        now_ms: u64,
    ) -> Result<(), Error> {
        let entry = entry.to_string();
        sql("INSERT INTO audit_heads (subject, sequence, hash) VALUES ($1, 0, $2) ON CONFLICT (subject) DO NOTHING")
            .bind(&subject)
            .bind(&[0u8; 32])
            .execute(tx)
            .await?;
        // The update, not the read, takes the row: two transactions never extend the same head.
        let row = sql("UPDATE audit_heads SET sequence = sequence + 1 WHERE subject = $1 RETURNING sequence, hash")
            .bind(&subject)
            .optional(&mut *tx)
            .await?
            .ok_or(Error::Corrupt("no head of an audit chain"))?;
        let head = AuditHead { sequence: row.number("sequence")? - 1, hash: row.array("hash")? };
        let next = head.extended(&subject, now_ms, kind, &entry);
        sql("UPDATE audit_heads SET hash = $2 WHERE subject = $1").bind(&subject).bind(&next.hash).execute(tx).await?;
        sql("INSERT INTO audit (subject, sequence, at_ms, kind, entry, hash) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(&subject)
            .bind(next.sequence)
            .bind(now_ms)
            .bind(kind)
            .bind(entry)
            .bind(&next.hash)
            .execute(tx)
            .await?;
        Ok(())
    }

    /// The entries of one chain after `after`, at most `take`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn audit(&self, subject: &[u8; 16], after: u64, take: u64) -> Result<Vec<AuditEntry>, Error> {
        let rows = sql("SELECT sequence, at_ms, kind, entry, hash FROM audit \
             WHERE subject = $1 AND sequence > $2 ORDER BY sequence LIMIT $3")
        .bind(subject)
        .bind(after)
        .bind(take)
        .all(&self.pool)
        .await?;
        rows.iter().map(entry).collect()
    }

    /// Walks one chain from its start and returns its head.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when an entry is missing or was changed.
    pub async fn verify_audit(&self, subject: &[u8; 16]) -> Result<AuditHead, Error> {
        let mut head = AuditHead { sequence: 0, hash: [0; 32] };
        loop {
            let page = self.audit(subject, head.sequence, 500).await?;
            for entry in &page {
                head = head.extended(subject, entry.at_ms, &entry.kind, &entry.entry);
                if (entry.sequence, entry.hash) != (head.sequence, head.hash) {
                    return Err(Error::Corrupt("an audit chain"));
                }
            }
            if page.is_empty() {
                break;
            }
        }
        let stored = sql("SELECT sequence, hash FROM audit_heads WHERE subject = $1").bind(subject);
        let stored = stored.optional(&self.pool).await?;
        let stored = stored.map(|row| Ok::<_, Error>((row.number("sequence")?, row.array("hash")?))).transpose()?;
        if stored.unwrap_or((0, [0; 32])) != (head.sequence, head.hash) {
            return Err(Error::Corrupt("the head of an audit chain"));
        }
        Ok(head)
    }
}

fn entry(row: &Row) -> Result<AuditEntry, Error> {
    Ok(AuditEntry {
        sequence: row.number("sequence")?,
        at_ms: row.number("at_ms")?,
        kind: row.get("kind")?,
        entry: row.get("entry")?,
        hash: row.array("hash")?,
    })
}
