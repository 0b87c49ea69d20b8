//! A signing half at rest, in the form that outlives library versions (DECISIONS.md D8).

use core::fmt;

use halfkey_envelope::{cbor, entropy::Entropy, wallet::Curve};
use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    backend::{Ecdsa, EcdsaBackend, Signer},
    error::{Error, Result},
    field::{Scalar, Secret},
    half::{Half, SigningShare},
    pair::{PairPublic, Role},
    point::Point,
    wire::Blob,
};

const VERSION: u8 = 1;

/// One party's signing half, its public record and, on secp256k1, the OT state shared with the other party.
///
/// Stored as {version, hollow share, OT state tagged with the library's version}. Without OT state, or with one that
/// the installed library cannot read, it cannot sign: [`SigningParty::needs_rekey`].
pub struct SigningParty {
    role: Role,
    share: SigningShare,
    public: PairPublic,
    ot: Option<<Ecdsa as EcdsaBackend>::Ot>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Stored {
    #[n(0)]
    version: u8,
    #[n(1)]
    curve: Curve,
    #[n(2)]
    role: u8,
    #[n(3)]
    share: ByteArray<32>,
    #[n(4)]
    public_key: ByteVec,
    #[n(5)]
    chain_code: ByteArray<32>,
    #[n(6)]
    client_point: ByteVec,
    #[n(7)]
    peer_point: ByteVec,
    #[n(8)]
    ot: Option<Blob>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.share.zeroize();
    }
}

impl SigningParty {
    /// A half without OT state.
    ///
    /// # Errors
    /// [`Error::ShareMismatch`] if the half does not belong to the record.
    pub fn hollow(role: Role, share: SigningShare, public: PairPublic) -> Result<Self> {
        if share.curve() != public.curve() || share.point() != public.point_of(role) {
            return Err(Error::ShareMismatch);
        }
        Ok(Self { role, share, public, ot: None })
    }

    pub(crate) fn with_ot(mut self, ot: <Ecdsa as EcdsaBackend>::Ot) -> Self {
        self.ot = Some(ot);
        self
    }

    /// The stored form: secret, for sealing only. About 52 KB on secp256k1.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let ot = self.ot.as_ref().map(|ot| Blob::new(Ecdsa::LIBRARY, ot)).transpose()?;
        Ok(cbor::to_secret_vec(&self.stored(ot)))
    }

    /// The stored form without OT state: the part that must open forever (golden files).
    #[must_use]
    pub fn to_hollow_bytes(&self) -> Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(&self.stored(None))
    }

    fn stored(&self, ot: Option<Blob>) -> Stored {
        Stored {
            version: VERSION,
            curve: self.public.curve(),
            role: self.role.code(),
            share: (*self.share.to_bytes()).into(),
            public_key: self.public.public_key().to_bytes().into(),
            chain_code: (*self.public.chain_code()).into(),
            client_point: self.public.client_point().to_bytes().into(),
            peer_point: self.public.peer_point().to_bytes().into(),
            ot,
        }
    }

    /// Opens a stored form. OT state of another library version is dropped: the party then [needs a
    /// rekey](Self::needs_rekey), and nothing is lost.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::InvalidState`] for damaged bytes, [`Error::ShareMismatch`] if the half does
    /// not fit its record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let stored: Stored = cbor::from_slice(bytes).map_err(|_| Error::InvalidState)?;
        if stored.version != VERSION {
            return Err(Error::UnknownVersion);
        }
        let role = match stored.role {
            1 => Role::Client,
            2 => Role::Peer,
            _ => return Err(Error::InvalidState),
        };
        let public = PairPublic::from_bytes(
            stored.curve,
            &stored.public_key,
            *stored.chain_code,
            &stored.client_point,
            &stored.peer_point,
        )?;
        let share = SigningShare::from_bytes(stored.curve, &stored.share)?;
        let mut party = Self::hollow(role, share, public)?;
        party.ot = open_ot(stored.curve, stored.ot.as_ref())?;
        Ok(party)
    }

    /// Which half this is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The half itself.
    #[must_use]
    pub const fn share(&self) -> &SigningShare {
        &self.share
    }

    /// The pair's public record.
    #[must_use]
    pub const fn public(&self) -> &PairPublic {
        &self.public
    }

    /// Whether [`crate::rekey`] must run before it can sign.
    #[must_use]
    pub const fn needs_rekey(&self) -> bool {
        matches!(self.public.curve(), Curve::Secp256k1) && self.ot.is_none()
    }

    /// The same half and record, without OT state.
    pub(crate) fn hollow_copy(&self) -> Self {
        Self {
            role: self.role,
            share: SigningShare::wrap(self.share.scalar().duplicate()),
            public: self.public,
            ot: None,
        }
    }

    pub(crate) fn ecdsa(&self) -> Result<Signer<'_, <Ecdsa as EcdsaBackend>::Ot>> {
        let ot = self.ot.as_ref().ok_or(Error::NeedsRekey)?;
        Ok(Signer { role: self.role, share: &self.share, public: &self.public, ot })
    }

    pub(crate) const fn eddsa(&self) -> Signer<'_, ()> {
        Signer { role: self.role, share: &self.share, public: &self.public, ot: &() }
    }
}

/// `None` where there is none or another library version wrote it; bytes of our own version must be whole.
fn open_ot(curve: Curve, blob: Option<&Blob>) -> Result<Option<<Ecdsa as EcdsaBackend>::Ot>> {
    match (curve, blob) {
        (_, None) => Ok(None),
        (Curve::Ed25519, Some(_)) => Err(Error::InvalidState),
        (Curve::Secp256k1, Some(blob)) => match blob.open(Ecdsa::LIBRARY) {
            Ok(ot) => Ok(Some(ot)),
            Err(Error::LibraryMismatch) => Ok(None),
            Err(_) => Err(Error::InvalidState),
        },
    }
}

/// Both halves of a fresh key from one process: **for tests and simulations only**, since whoever calls it holds the
/// whole key. On secp256k1 both parties need a rekey before they sign.
///
/// # Errors
/// [`Error::Internal`], with negligible probability.
pub fn danger_deal(curve: Curve, entropy: &mut dyn Entropy) -> Result<(SigningParty, SigningParty)> {
    let client = SigningShare::wrap(Scalar::random(curve, entropy));
    let peer = SigningShare::wrap(Scalar::random(curve, entropy));
    let public_key: Point = client.point().add(&peer.point())?;
    let chain_code = match curve {
        Curve::Secp256k1 => *halfkey_envelope::entropy::random::<32>(entropy),
        Curve::Ed25519 => [0; 32],
    };
    let public = PairPublic::new(public_key, chain_code, client.point(), peer.point())?;
    Ok((SigningParty::hollow(Role::Client, client, public)?, SigningParty::hollow(Role::Peer, peer, public)?))
}

impl fmt::Debug for SigningParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningParty")
    }
}
