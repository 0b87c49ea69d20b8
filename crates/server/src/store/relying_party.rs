//! What each custodian says about the apps that may use its relying party's passkeys.

use halfkey_envelope::id::CustodianId;

use super::{
    Error, Store, What,
    sql::{On, Row, sql},
};

impl Store {
    /// Replaces what a custodian says, if `fits` agrees to what all custodians then say together; says whether it did.
    /// Calls wait for each other, so that two of them cannot fit alone and be too much together.
    ///
    /// # Errors
    /// [`Error::Unknown`] custodian; the database's own trouble.
    pub async fn put_relying_party(
        &self,
        custodian: CustodianId,
        document: &str,
        fits: impl Fn(&[(CustodianId, String)]) -> bool + Send,
        now_ms: u64,
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        // Locks the one row of this table: the next caller waits here on either back end.
        sql("UPDATE deployment SET singleton = singleton").execute(&mut tx).await?;
        let known = sql("SELECT id FROM custodians WHERE id = $1").bind(custodian).optional(&mut tx).await?;
        known.ok_or(Error::Unknown(What::Custodian))?;
        sql("INSERT INTO relying_parties (custodian, document, changed_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (custodian) DO UPDATE SET document = excluded.document, changed_ms = excluded.changed_ms")
        .bind(custodian)
        .bind(document)
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        if !fits(&documents((&mut tx).into()).await?) {
            return Ok(false);
        }
        let entry = serde_json::json!({ "bytes": document.len() });
        self.log(&mut tx, *custodian.as_bytes(), "relying-party.changed", entry, now_ms).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What a custodian says, if it ever said anything.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn relying_party(&self, custodian: CustodianId) -> Result<Option<String>, Error> {
        let row = sql("SELECT document FROM relying_parties WHERE custodian = $1").bind(custodian);
        row.optional(&self.pool).await?.map(|row| row.get("document")).transpose()
    }

    /// What every custodian says, in the order of their ids.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn relying_parties(&self) -> Result<Vec<(CustodianId, String)>, Error> {
        documents((&self.pool).into()).await
    }
}

async fn documents(on: On<'_>) -> Result<Vec<(CustodianId, String)>, Error> {
    let rows = sql("SELECT custodian, document FROM relying_parties ORDER BY custodian").all(on).await?;
    rows.iter().map(|row: &Row| Ok((row.id("custodian")?, row.get("document")?))).collect()
}
