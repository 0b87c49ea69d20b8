//! Devices: enrolled on first use while the client has none, later only through a recovery (DECISIONS.md D4).

use halfkey_envelope::id::{ClientId, DeviceId, RecoveryId};

use super::{
    Error, Store, What,
    sql::{Row, Tx, sql},
};

/// How long a request's nonce is remembered. Longer than twice the skew that a request's timestamp may have.
pub const NONCE_LIFE_MS: u64 = 15 * 60 * 1000;

/// A device that asks to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its identifier.
    pub id: DeviceId,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// Such as `linux`, `ios`, `android`, `web`.
    pub platform: String,
    /// The user's name for it.
    pub name: String,
}

/// An enrolled device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its identifier.
    pub id: DeviceId,
    /// Its client.
    pub client: ClientId,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// As enrolled.
    pub platform: String,
    /// As enrolled.
    pub name: String,
    /// The recovery that enrolled it; `None` for the first device.
    pub recovery: Option<RecoveryId>,
    /// In milliseconds.
    pub created_ms: u64,
    /// When it last signed a call, in milliseconds.
    pub seen_ms: u64,
    /// In milliseconds, if revoked.
    pub revoked_ms: Option<u64>,
}

impl Store {
    /// Enrols the first device of a client, on trust. Refused once there is one, and for ever once a wallet was made:
    /// then only a recovery enrols. The same key again gives the same device.
    ///
    /// # Errors
    /// [`Error::Exists`] device; [`Error::Unknown`] client.
    pub async fn enrol_first_device(&self, client: ClientId, new: &NewDevice, now_ms: u64) -> Result<Device, Error> {
        let mut tx = self.pool.begin().await?;
        self.hold_client(&mut tx, client).await?;
        let devices = devices_of(&mut tx, client).await?;
        if let Some(same) = devices.iter().find(|device| device.public_key == new.public_key) {
            return if same.revoked_ms.is_none() { Ok(same.clone()) } else { Err(Error::Exists(What::Device)) };
        }
        let wallet = sql("SELECT id FROM wallets WHERE client = $1 AND state <> 'CREATING'")
            .bind(client)
            .optional(&mut tx)
            .await?;
        if wallet.is_some() || devices.iter().any(|device| device.revoked_ms.is_none()) {
            return Err(Error::Exists(What::Device));
        }
        let device = insert_device(&mut tx, client, new, None, now_ms).await?;
        let entry = serde_json::json!({ "device": device.id, "platform": device.platform });
        self.log(&mut tx, *client.as_bytes(), "device.enrolled", entry, now_ms).await?;
        tx.commit().await?;
        Ok(device)
    }

    /// The client's device with this key, revoked or not.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn device_by_key(&self, client: ClientId, public_key: &[u8; 32]) -> Result<Device, Error> {
        let row = sql("SELECT id, client, public_key, platform, name, recovery, created_ms, seen_ms, revoked_ms \
             FROM devices WHERE client = $1 AND public_key = $2")
        .bind(client)
        .bind(public_key)
        .optional(&self.pool)
        .await?;
        device(&row.ok_or(Error::Unknown(What::Device))?)
    }

    /// Every device of a client, revoked ones included, oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn devices(&self, client: ClientId) -> Result<Vec<Device>, Error> {
        let rows = sql("SELECT id, client, public_key, platform, name, recovery, created_ms, seen_ms, revoked_ms \
             FROM devices WHERE client = $1 ORDER BY id")
        .bind(client)
        .all(&self.pool)
        .await?;
        rows.iter().map(device).collect()
    }

    /// Notes a signed request of a device: its nonce is accepted once, and the device was seen.
    /// `signer` is the key that signed, enrolled or not (a new device signs the opening of a recovery).
    ///
    /// # Errors
    /// [`Error::Exists`] challenge: the nonce was used before.
    pub async fn accept_nonce(&self, signer: &[u8; 32], nonce: &[u8; 32], now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let fresh = sql("INSERT INTO request_nonces (device, nonce, expires_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (device, nonce) DO NOTHING")
        .bind(signer)
        .bind(nonce)
        .bind(now_ms.saturating_add(NONCE_LIFE_MS))
        .execute(&mut tx)
        .await?;
        if fresh == 0 {
            return Err(Error::Exists(What::Challenge));
        }
        sql("UPDATE devices SET seen_ms = $2 WHERE public_key = $1 AND revoked_ms IS NULL AND seen_ms < $2")
            .bind(signer)
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        tx.commit().await
    }
}

/// Every device of a client, inside a transaction.
pub(super) async fn devices_of(tx: &mut Tx, client: ClientId) -> Result<Vec<Device>, Error> {
    let rows = sql("SELECT id, client, public_key, platform, name, recovery, created_ms, seen_ms, revoked_ms \
         FROM devices WHERE client = $1 ORDER BY id")
    .bind(client)
    .all(tx)
    .await?;
    rows.iter().map(device).collect()
}

/// Writes the row of a new device.
pub(super) async fn insert_device(
    tx: &mut Tx,
    client: ClientId,
    new: &NewDevice,
    recovery: Option<RecoveryId>,
    now_ms: u64,
) -> Result<Device, Error> {
    sql("INSERT INTO devices (id, client, public_key, platform, name, recovery, created_ms, seen_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)")
    .bind(new.id)
    .bind(client)
    .bind(&new.public_key)
    .bind(new.platform.as_str())
    .bind(new.name.as_str())
    .bind(recovery)
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(Device {
        id: new.id,
        client,
        public_key: new.public_key,
        platform: new.platform.clone(),
        name: new.name.clone(),
        recovery,
        created_ms: now_ms,
        seen_ms: now_ms,
        revoked_ms: None,
    })
}

fn device(row: &Row) -> Result<Device, Error> {
    Ok(Device {
        id: row.id("id")?,
        client: row.id("client")?,
        public_key: row.array("public_key")?,
        platform: row.get("platform")?,
        name: row.get("name")?,
        recovery: row.optional_id("recovery")?,
        created_ms: row.number("created_ms")?,
        seen_ms: row.number("seen_ms")?,
        revoked_ms: row.optional_number("revoked_ms")?,
    })
}
