//! Wallets, from the opening of their key generation to the first active signing pair.

use halfkey_envelope::{
    id::{ClientId, DeviceId, PairId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::lifecycle::{Event, Evidence, PairRef, PairState, Refusal, SlotKey, WalletState};

use super::{
    Error, Store, What,
    eject::must_live,
    shares::{NewHalf, insert_share, shares_of, store_half},
    slots::{self, Work},
    sql::{On, Row, Tx, sql},
};

/// One key pair on one curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wallet {
    /// Its identifier.
    pub id: WalletId,
    /// Its client.
    pub client: ClientId,
    /// Its curve.
    pub curve: Curve,
    /// X; `None` until the key generation has completed. It never changes afterwards.
    pub public_key: Option<Vec<u8>>,
    /// BIP-32 chain code.
    pub chain_code: Option<[u8; 32]>,
    /// `None` while it is being created.
    pub state: Option<WalletState>,
    /// In milliseconds.
    pub created_ms: u64,
}

/// Fresh identifiers for one curve of `begin_wallets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewWallet {
    /// The curve.
    pub curve: Curve,
    /// For the wallet, if it is new.
    pub wallet: WalletId,
    /// For the pending signing pair.
    pub pair: PairId,
}

/// A signing pair about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingSigning {
    /// The wallet; of a half-made one the identifier that it has already.
    pub wallet: WalletId,
    /// Its curve.
    pub curve: Curve,
    /// The pending pair.
    pub pair: PairId,
    /// The slot's generation.
    pub generation: u64,
    /// When the pair expires, in milliseconds.
    pub deadline_ms: u64,
}

impl Store {
    /// Opens the key generation of every curve for a device: a pending signing pair each. What an earlier attempt left
    /// is abandoned, so a crash in the middle never blocks.
    ///
    /// # Errors
    /// [`Error::Exists`] wallet once one was completed; [`Error::Unknown`] device, also a revoked one.
    pub async fn begin_wallets(
        &self,
        client: ClientId,
        device: DeviceId,
        new: &[NewWallet],
        now_ms: u64,
    ) -> Result<Vec<PendingSigning>, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_be_enrolled(&mut work.tx, client, device).await?;
        let known = wallets_of(&mut work.tx, client).await?;
        if Curve::ALL.iter().all(|curve| known.iter().any(|w| w.curve == *curve && w.state.is_some())) {
            return Err(Error::Exists(What::Wallet));
        }
        let mut begun = Vec::new();
        for new in new {
            let known = known.iter().find(|wallet| wallet.curve == new.curve);
            if known.is_some_and(|wallet| wallet.state.is_some()) {
                continue;
            }
            let wallet = match known {
                Some(wallet) => wallet.id,
                None => insert_wallet(&mut work.tx, client, new, now_ms).await?,
            };
            begun.push(begin_signing(&mut work, client, device, wallet, new.curve, new.pair, now_ms).await?);
        }
        work.commit(now_ms).await?;
        Ok(begun)
    }

    /// Stores the server's halves of pending signing pairs, all or none. Stored again, before the commit, the newer
    /// half counts.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair; [`Error::Mismatch`] wallet when the public key is not the wallet's; [`Error::Refused`].
    pub async fn store_signing_halves(
        &self,
        client: ClientId,
        device: DeviceId,
        halves: &[NewHalf],
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        for half in halves {
            let pair = PairRef::Signing(half.pair);
            let key = slots::key_of(&mut work.tx, client, pair).await?;
            let evidence = Event::Evidence { pair, by: device, what: Evidence::ServerHalf };
            work.apply(client, &key, &[evidence], now_ms).await?;
            store_half(&mut work.tx, client, pair, half).await?;
        }
        work.commit(now_ms).await
    }

    /// Makes freshly generated signing pairs active, and with the first one of a curve the wallet itself. Call it only
    /// after the device has proved that it holds its halves. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair or half; [`Error::Mismatch`] wallet; [`Error::Refused`].
    pub async fn activate_signing(
        &self,
        client: ClientId,
        device: DeviceId,
        pairs: &[PairId],
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        let mut news = false;
        for pair in pairs {
            news |= activate(&mut work, client, device, *pair, now_ms).await?;
        }
        if news {
            let payload = serde_json::json!({ "device": device, "pairs": pairs });
            work.tell(client, "wallet.created", payload, now_ms).await?;
        }
        work.commit(now_ms).await
    }

    /// The client's wallets in the order of the curves.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn wallets(&self, client: ClientId) -> Result<Vec<Wallet>, Error> {
        wallets_of(&self.pool, client).await
    }

    /// One wallet of this client.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's wallet too.
    pub async fn wallet(&self, client: ClientId, id: WalletId) -> Result<Wallet, Error> {
        let row = sql("SELECT * FROM wallets WHERE id = $1 AND client = $2").bind(id).bind(client);
        wallet(&row.optional(&self.pool).await?.ok_or(Error::Unknown(What::Wallet))?)
    }
}

/// Begins a pending signing pair with an empty share row.
pub(super) async fn begin_signing(
    work: &mut Work,
    client: ClientId,
    device: DeviceId,
    wallet: WalletId,
    curve: Curve,
    id: PairId,
    now_ms: u64,
) -> Result<PendingSigning, Error> {
    let (key, pair) = (SlotKey::Signing { wallet, device }, PairRef::Signing(id));
    let slot = work.apply(client, &key, &[Event::Begin { pair, by: device }], now_ms).await?;
    insert_share(&mut work.tx, client, pair, id, wallet, curve).await?;
    let begun = slot.pending().ok_or(Error::Refused(Refusal::NotPending))?;
    Ok(PendingSigning { wallet, curve, pair: id, generation: begun.generation, deadline_ms: begun.deadline_ms })
}

/// Makes one signing pair active; says whether it was not before.
pub(super) async fn activate(
    work: &mut Work,
    client: ClientId,
    device: DeviceId,
    id: PairId,
    now_ms: u64,
) -> Result<bool, Error> {
    let pair = PairRef::Signing(id);
    let key = slots::key_of(&mut work.tx, client, pair).await?;
    let commit = Event::Commit { pair, by: device };
    let before = work.slot(client, &key).await?;
    if before.pair(pair).is_some_and(|pair| pair.state == PairState::Active) {
        work.apply(client, &key, &[commit], now_ms).await?;
        return Ok(false);
    }
    let proven = Event::Evidence { pair, by: device, what: Evidence::TestSignature };
    work.apply(client, &key, &[proven, commit], now_ms).await?;
    let share = shares_of(&mut work.tx, client, pair).await?.pop().ok_or(Error::Unknown(What::Pair))?;
    let public = share.public.ok_or(Error::Unknown(What::Half))?;
    sql("UPDATE wallets SET public_key = $3, chain_code = $4, state = 'OPEN', version = version + 1 \
         WHERE id = $1 AND client = $2 AND state = 'CREATING'")
    .bind(share.wallet)
    .bind(client)
    .bind(public.public_key.as_slice())
    .bind(&public.chain_code)
    .execute(&mut work.tx)
    .await?;
    let same = sql("SELECT id FROM wallets WHERE id = $1 AND client = $2 AND public_key = $3 AND chain_code = $4 \
         AND state = 'OPEN'")
    .bind(share.wallet)
    .bind(client)
    .bind(public.public_key.as_slice())
    .bind(&public.chain_code)
    .optional(&mut work.tx)
    .await?;
    same.map(|_| true).ok_or(Error::Mismatch(What::Wallet))
}

/// Refuses unless every wallet of the client is there and open; returns them.
pub(super) async fn open_wallets(tx: &mut Tx, client: ClientId) -> Result<Vec<Wallet>, Error> {
    let wallets = wallets_of(tx, client).await?;
    for curve in Curve::ALL {
        let wallet = wallets.iter().find(|wallet| wallet.curve == curve);
        wallet.and_then(|wallet| wallet.state).ok_or(Error::Unknown(What::Wallet))?.may_operate()?;
    }
    Ok(wallets)
}

/// Refuses unless the device is enrolled and not revoked.
pub(super) async fn must_be_enrolled(tx: &mut Tx, client: ClientId, device: DeviceId) -> Result<(), Error> {
    let row = sql("SELECT id FROM devices WHERE id = $1 AND client = $2 AND revoked_ms IS NULL")
        .bind(device)
        .bind(client)
        .optional(tx)
        .await?;
    row.map(drop).ok_or(Error::Unknown(What::Device))
}

pub(super) async fn wallets_of(on: impl Into<On<'_>>, client: ClientId) -> Result<Vec<Wallet>, Error> {
    let rows = sql("SELECT * FROM wallets WHERE client = $1 ORDER BY curve DESC").bind(client);
    rows.all(on).await?.iter().map(wallet).collect()
}

async fn insert_wallet(tx: &mut Tx, client: ClientId, new: &NewWallet, now_ms: u64) -> Result<WalletId, Error> {
    sql("INSERT INTO wallets (id, client, curve, state, created_ms, version) VALUES ($1, $2, $3, 'CREATING', $4, 0)")
        .bind(new.wallet)
        .bind(client)
        .bind(new.curve.as_str())
        .bind(now_ms)
        .execute(tx)
        .await?;
    Ok(new.wallet)
}

fn wallet(row: &Row) -> Result<Wallet, Error> {
    let state = row.get::<String>("state")?;
    let state = match state.as_str() {
        "CREATING" => None,
        state => Some(WalletState::parse(state).map_err(|_| Error::Corrupt("the state of a wallet"))?),
    };
    Ok(Wallet {
        id: row.id("id")?,
        client: row.id("client")?,
        curve: row.parse("curve")?,
        public_key: row.get("public_key")?,
        chain_code: row.optional_array("chain_code")?,
        state,
        created_ms: row.number("created_ms")?,
    })
}
