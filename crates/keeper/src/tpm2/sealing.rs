//! The root under a quorum of signers, enforced by the TPM.
//!
//! A TPM's PolicyAuthorize takes one signer's word. So each signer gets a random part of 32 bytes, sealed so that the
//! TPM gives it out only in a state of the PCRs that *this* signer has approved; and for each smallest group that
//! reaches the quorum, the root is sealed under a key made of that group's parts. No share of the root is in the clear
//! anywhere, and too few signers open nothing, whatever this program does.

use halfkey_envelope::{
    cbor,
    entropy::{Entropy, random},
    keeper::SealRootKey,
    seal::{self, Magic, SealKey},
};
use halfkey_evidence::tpm2::PcrSelection;
use minicbor::{Decode, Encode};
use p256::ecdsa::VerifyingKey;
use zeroize::Zeroizing;

use super::{
    Approval, Result, Terms, Tpm2Error,
    approval::{compressed, reference},
};
use crate::tpm::{Authorisation, SealedBlob, Tpm, authorised_policy};

const VERSION: u16 = 1;
const MAGIC: Magic = Magic(*b"HKT1");
/// 35 groups of four at most.
const MAX_SIGNERS: usize = 7;
const GROUP_KEY: &str = "halfkey/keeper/v1/tpm2/group";

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sealing {
    #[n(1)]
    version: u16,
    #[cbor(n(2), with = "minicbor::bytes")]
    pcrs: Vec<u8>,
    #[n(3)]
    quorum: u8,
    #[n(4)]
    parts: Vec<Part>,
    #[n(5)]
    groups: Vec<Group>,
}

/// A signer and the part that waits for his word.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Part {
    #[cbor(n(1), with = "minicbor::bytes")]
    signer: [u8; 33],
    #[cbor(n(2), with = "minicbor::bytes")]
    public: Vec<u8>,
    #[cbor(n(3), with = "minicbor::bytes")]
    private: Vec<u8>,
}

/// The root for one group of signers: bit i is signer i.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Group {
    #[n(1)]
    members: u8,
    #[cbor(n(2), with = "minicbor::bytes")]
    sealed: Vec<u8>,
}

/// The header of a group's sealed root.
#[derive(Encode)]
#[cbor(map)]
struct Header<'a> {
    #[cbor(n(1), with = "minicbor::bytes")]
    pcrs: &'a [u8],
    #[n(2)]
    quorum: u8,
    #[n(3)]
    signers: &'a [minicbor::bytes::ByteArray<33>],
    #[n(4)]
    members: u8,
}

impl Terms {
    fn check(&self) -> Result<()> {
        let Self { signers, quorum, .. } = self;
        let different = signers.iter().enumerate().all(|(at, signer)| !signers[..at].contains(signer));
        let good = (1..=MAX_SIGNERS).contains(&signers.len()) && (1..=signers.len()).contains(quorum) && different;
        if good { Ok(()) } else { Err(Tpm2Error::BadQuorum) }
    }
}

/// Seals a root under these terms.
pub fn seal(tpm: &mut Tpm, root: &SealRootKey, terms: &Terms, entropy: &mut dyn Entropy) -> Result<Sealing> {
    terms.check()?;
    let (mut parts, mut secrets) = (vec![], vec![]);
    for signer in &terms.signers {
        let (x, y) = point(signer)?;
        let secret = random::<32>(entropy);
        let SealedBlob { public, private } = tpm.seal(&authorised_policy((&x, &y), &reference()), &secret)?;
        parts.push(Part { signer: *signer, public, private });
        secrets.push(secret);
    }
    let quorum = terms.quorum as u8;
    let mut sealing =
        Sealing { version: VERSION, pcrs: terms.selection.pcrs().to_vec(), quorum, parts, groups: vec![] };
    for members in groups(terms.signers.len(), terms.quorum) {
        let own = secrets.iter().enumerate().filter(|(at, _)| members >> at & 1 == 1).map(|(_, secret)| secret);
        let sealed = seal::seal(&group_key(own), MAGIC, &sealing.header(members), root.expose(), entropy);
        sealing.groups.push(Group { members, sealed });
    }
    Ok(sealing)
}

impl Sealing {
    pub fn selection(&self) -> Result<PcrSelection> {
        PcrSelection::new(&self.pcrs).map_err(|_| unknown())
    }

    /// The terms that it was made under.
    pub fn terms(&self) -> Result<Terms> {
        let signers = self.parts.iter().map(|part| part.signer).collect();
        let terms = Terms { selection: self.selection()?, signers, quorum: self.quorum.into() };
        terms.check().map_err(|_| unknown())?;
        Ok(terms)
    }

    /// Which signers have approved this state, each once, by their place in the list.
    pub fn approved_by(&self, digest: &[u8; 32], approvals: &[Approval]) -> Vec<(usize, Approval)> {
        let fits = |signer: &[u8; 33]| {
            let of = |approval: &&Approval| {
                approval.signer == *signer && approval.pcrs == self.pcrs && approval.digest == *digest
            };
            approvals.iter().filter(of).find(|approval| approval.holds()).cloned()
        };
        let signers = self.parts.iter().enumerate();
        signers.filter_map(|(at, part)| fits(&part.signer).map(|approval| (at, approval))).collect()
    }

    /// Whether a quorum has approved this state.
    pub fn is_approved(&self, digest: &[u8; 32], approvals: &[Approval]) -> Result<Vec<(usize, Approval)>> {
        let (approved, needed) = (self.approved_by(digest, approvals), usize::from(self.quorum));
        if approved.len() < needed {
            let digest = hex::encode(digest);
            return Err(Tpm2Error::NotApproved { approved: approved.len(), needed, digest });
        }
        Ok(approved)
    }

    /// The root, if enough signers have approved the PCRs as they are now.
    pub fn open(&self, tpm: &mut Tpm, approvals: &[Approval]) -> Result<SealRootKey> {
        let Terms { selection, quorum, .. } = self.terms()?;
        if self.version != VERSION {
            return Err(unknown());
        }
        let approved = self.is_approved(&tpm.pcr_digest(&selection)?, approvals)?;
        let (mut members, mut secrets) = (0, vec![]);
        for (at, approval) in &approved[..quorum] {
            secrets.push(self.unseal_part(tpm, &selection, *at, approval)?);
            members |= 1 << at;
        }
        let group = self.groups.iter().find(|group| group.members == members).ok_or_else(unknown)?;
        let opened = seal::open(&group_key(secrets.iter()), MAGIC, &self.header(members), &group.sealed);
        let root = opened.ok().and_then(|root| <[u8; 32]>::try_from(&root[..]).ok()).ok_or_else(unknown)?;
        Ok(SealRootKey::from_bytes(Zeroizing::new(root)))
    }

    fn unseal_part(
        &self,
        tpm: &mut Tpm,
        selection: &PcrSelection,
        at: usize,
        approval: &Approval,
    ) -> Result<Zeroizing<[u8; 32]>> {
        let part = self.parts.get(at).ok_or_else(unknown)?;
        let (x, y) = point(&part.signer)?;
        let (r, s) = approval.signature.split_at(32);
        let (r, s) = (r.try_into().map_err(|_| unknown())?, s.try_into().map_err(|_| unknown())?);
        let (approved, reference) = (approval.policy()?, reference());
        let authorisation =
            Authorisation { approved: &approved, reference: &reference, signer: (&x, &y), signature: (r, s) };
        let blob = SealedBlob { public: part.public.clone(), private: part.private.clone() };
        Ok(tpm.unseal(&blob, selection, &authorisation)?)
    }

    fn header(&self, members: u8) -> Vec<u8> {
        let signers: Vec<_> = self.parts.iter().map(|part| minicbor::bytes::ByteArray::from(part.signer)).collect();
        cbor::to_vec(&Header { pcrs: &self.pcrs, quorum: self.quorum, signers: &signers, members })
    }
}

/// Every group of exactly `quorum` of `count` signers, as a bit field.
fn groups(count: usize, quorum: usize) -> impl Iterator<Item = u8> {
    (0..1u8 << count).filter(move |members| members.count_ones() as usize == quorum)
}

fn group_key<'a>(parts: impl Iterator<Item = &'a Zeroizing<[u8; 32]>>) -> SealKey {
    let mut all = Zeroizing::new(Vec::with_capacity(32 * MAX_SIGNERS));
    parts.for_each(|part| all.extend_from_slice(part.as_ref()));
    SealKey::derive(b"", &all, GROUP_KEY)
}

/// The coordinates of a compressed key.
fn point(compressed_key: &[u8; 33]) -> Result<([u8; 32], [u8; 32])> {
    let key = VerifyingKey::from_sec1_bytes(compressed_key).map_err(|_| Tpm2Error::BadQuorum)?;
    debug_assert!(compressed(&key).is_ok_and(|same| same == *compressed_key), "33 bytes are the compressed form");
    let uncompressed = key.to_sec1_point(false);
    let (x, y) = (uncompressed.as_bytes().get(1..33), uncompressed.as_bytes().get(33..65));
    match (x.map(TryInto::try_into), y.map(TryInto::try_into)) {
        (Some(Ok(x)), Some(Ok(y))) => Ok((x, y)),
        _ => Err(Tpm2Error::BadQuorum),
    }
}

fn unknown() -> Tpm2Error {
    Tpm2Error::Unknown("the sealing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_smallest_group_is_there_once() {
        for (count, quorum, expected) in [(1, 1, 1), (3, 2, 3), (5, 3, 10), (7, 4, 35), (7, 7, 1)] {
            let found: std::collections::BTreeSet<_> = groups(count, quorum).collect();
            assert_eq!(found.len(), expected, "{quorum} of {count}");
        }
    }
}
