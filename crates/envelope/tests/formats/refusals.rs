//! What must not open: changed bits, swapped fields, other encodings, other versions, too much.

use halfkey_envelope::{
    FileKey, Record, cbor,
    client_share::{self, Contents, Error, Expected, Field, Header},
    custodian::{self, HalfContext, Purpose},
    entropy::DangerSeededEntropy,
    id::{BackupId, ClientId, DeploymentId, PairId, WalletId},
    seal::{self, Magic, OpenError},
    wallet::{Curve, Method},
};

use crate::{cbor_variants::non_canonical, sample};

const ENVELOPE: Magic = Magic(*b"HKE1");
const CUSTODIAN: Magic = Magic(*b"HKC1");

fn expected() -> Expected {
    Expected::from(&sample::header())
}

/// An envelope around any header bytes; everything after the header is of the right length but meaningless.
fn with_header(magic: Magic, header: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_be_bytes();
    [&magic.0[..], &length, header, &[0; 80]].concat()
}

fn header_bytes(sealed: &[u8]) -> &[u8] {
    &sealed[6..6 + usize::from(u16::from_be_bytes([sealed[4], sealed[5]]))]
}

#[test]
fn every_bit_flip_of_an_envelope_is_refused() {
    let (key, expected, envelope) = (sample::file_key(), expected(), sample::envelope());
    assert!(client_share::open(&key, &expected, &envelope).is_ok());
    for bit in 0..envelope.len() * 8 {
        let mut bad = envelope.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(client_share::open(&key, &expected, &bad).is_err(), "bit {bit}");
        let opened = client_share::open_with_record(&sample::record(), &bad);
        assert_eq!(opened.unwrap_err(), Error::OtherEnvelope, "bit {bit}");
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let (key, expected, envelope) = (sample::file_key(), expected(), sample::envelope());
    for end in 0..envelope.len() {
        assert!(client_share::open(&key, &expected, &envelope[..end]).is_err(), "{end} bytes");
    }
    for extra in [&b"\0"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &envelope] {
        let longer = [&envelope, extra].concat();
        assert_eq!(
            client_share::open(&key, &expected, &longer).unwrap_err(),
            Error::Sealed(OpenError::Changed),
            "{} more",
            extra.len()
        );
    }
}

/// Each way in which a genuine envelope can belong somewhere else, with the field that must be named.
fn swapped_headers() -> Vec<(Field, Header)> {
    let mut cases = vec![];
    let mut case = |field: Field, change: &dyn Fn(&mut Header)| {
        let mut header = sample::header();
        change(&mut header);
        assert_ne!(header, sample::header());
        cases.push((field, header));
    };
    case(Field::Deployment, &|h| h.deployment = DeploymentId::from_bytes(sample::id(1)));
    case(Field::Client, &|h| h.client = ClientId::from_bytes(sample::id(1)));
    case(Field::Backup, &|h| h.backup = BackupId::from_bytes(sample::id(1)));
    case(Field::Generation, &|h| h.generation += 1);
    case(Field::Method, &|h| h.method = Method::RecoveryCode);
    case(Field::Curves, &|h| h.curves.truncate(1));
    case(Field::Curves, &|h| {
        h.curves.remove(0);
    });
    for (i, curve) in Curve::ALL.into_iter().enumerate() {
        case(Field::Wallet(curve), &|h| h.curves[i].wallet = WalletId::from_bytes(sample::id(1)));
        case(Field::PublicKey(curve), &|h| h.curves[i].public_key[9] ^= 1);
        case(Field::ChainCode(curve), &|h| h.curves[i].chain_code[9] ^= 1);
        case(Field::ClientPoint(curve), &|h| h.curves[i].client_point[9] ^= 1);
        case(Field::CustodianPoint(curve), &|h| h.curves[i].custodian_point[9] ^= 1);
    }
    cases
}

#[test]
fn an_envelope_for_another_context_is_refused_by_the_field_that_differs_before_any_key_is_tried() {
    let (envelope, wrong) = (sample::envelope(), FileKey::from_bytes(sample::key(0x99)));
    for (field, header) in swapped_headers() {
        for key in [&sample::file_key(), &wrong] {
            let opened = client_share::open(key, &Expected::from(&header), &envelope);
            assert_eq!(opened.unwrap_err(), Error::OtherContext(field));
        }
    }
}

#[test]
fn a_drill_on_an_envelope_for_another_context_is_refused_by_the_field_that_differs() {
    for (field, header) in swapped_headers() {
        let drilled = client_share::drill(&sample::file_key(), &Expected::from(&header), &sample::envelope());
        assert_eq!(drilled.unwrap_err(), Error::OtherContext(field));
    }
}

#[test]
fn a_header_rewritten_to_what_the_caller_expects_does_not_open() {
    let envelope = sample::envelope();
    let rest = &envelope[6 + header_bytes(&envelope).len()..];
    for (field, header) in swapped_headers() {
        let bytes = cbor::to_vec(&header);
        let length = (bytes.len() as u16).to_be_bytes();
        let forged = [&ENVELOPE.0[..], &length, &bytes, rest].concat();
        let opened = client_share::open(&sample::file_key(), &Expected::from(&header), &forged);
        assert_eq!(opened.unwrap_err(), Error::Sealed(OpenError::WrongKey), "{field:?}");
    }
}

#[test]
fn a_record_opens_its_own_envelope_only() {
    let mut header = sample::header();
    header.generation = 6;
    let mut entropy = DangerSeededEntropy::new(9);
    let older = client_share::seal(&sample::file_key(), &header, &sample::contents(), &mut entropy).unwrap();
    let opened = client_share::open_with_record(&sample::record(), &older);
    assert_eq!(opened.unwrap_err(), Error::OtherEnvelope);
}

#[test]
fn the_drill_knows_the_right_key_without_opening() {
    let (expected, envelope) = (expected(), sample::envelope());
    assert_eq!(client_share::drill(&sample::file_key(), &expected, &envelope), Ok(()));
    let wrong = FileKey::from_bytes(sample::key(0x12));
    let refused = client_share::drill(&wrong, &expected, &envelope).unwrap_err();
    assert_eq!(refused, Error::Sealed(OpenError::WrongKey));
    let commitment = client_share::commitment_of(&sample::file_key(), &envelope).unwrap();
    assert_eq!(commitment, client_share::commitment(&envelope).unwrap());
    assert_ne!(commitment, client_share::commitment_of(&wrong, &envelope).unwrap());
}

#[test]
fn no_other_encoding_of_a_header_is_read() {
    let genuine = cbor::to_vec(&sample::header());
    assert!(client_share::peek_header(&with_header(ENVELOPE, &genuine)).is_ok());
    let variants = non_canonical(&genuine);
    assert!(variants.len() > 500, "the corpus covers every node of the header");
    for bytes in variants {
        let refused = client_share::peek_header(&with_header(ENVELOPE, &bytes));
        assert!(matches!(refused, Err(Error::Header(_))), "{} gives {refused:?}", hex::encode(&bytes));
    }
}

#[test]
fn no_other_encoding_of_the_contents_is_read() {
    let (key, header) = (sample::seal_key_of(&sample::file_key()), cbor::to_vec(&sample::header()));
    let open = |plaintext: &[u8]| {
        let envelope = seal::seal(&key, ENVELOPE, &header, plaintext, &mut DangerSeededEntropy::new(1));
        client_share::open(&sample::file_key(), &expected(), &envelope).map(|_| ())
    };
    let opened = seal::open(&key, ENVELOPE, &header, &sample::envelope()).unwrap();
    assert_eq!(open(&opened), Ok(()));
    for bytes in non_canonical(&opened) {
        assert!(matches!(open(&bytes), Err(Error::Contents(_))), "{}", hex::encode(&bytes));
    }
}

#[test]
fn no_other_encoding_of_a_record_is_read() {
    let genuine = sample::record().to_bytes();
    assert_eq!(Record::from_bytes(&genuine).unwrap().to_bytes(), genuine);
    for bytes in non_canonical(&genuine) {
        let refused = Record::from_bytes(&bytes).unwrap_err();
        assert!(matches!(refused, Error::Contents(_)), "{} gives {refused:?}", hex::encode(&bytes));
    }
}

#[test]
fn no_other_encoding_of_a_custodian_header_is_read() {
    let sealed = sealed_half();
    assert!(custodian::peek_context(&sealed).is_ok());
    for bytes in non_canonical(header_bytes(&sealed)) {
        let refused = custodian::peek_context(&with_header(CUSTODIAN, &bytes)).unwrap_err();
        assert!(matches!(refused, custodian::Error::Header(_)), "{} gives {refused:?}", hex::encode(&bytes));
    }
}

/// `bytes` with the value of the one-byte field `key` (its first occurrence) replaced.
fn with_field(bytes: &[u8], key: u8, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    assert_eq!(bytes[1 + 2 * usize::from(key - 1)], key);
    bytes[2 + 2 * usize::from(key - 1)] = value;
    bytes
}

#[test]
fn unknown_versions_and_suites_are_named() {
    let header = cbor::to_vec(&sample::header());
    let peek = |header: &[u8]| client_share::peek_header(&with_header(ENVELOPE, header)).unwrap_err();
    assert_eq!(peek(&with_field(&header, 1, 2)), Error::UnknownVersion(2));
    assert_eq!(peek(&with_field(&header, 2, 0)), Error::UnknownSuite(0));
    let record = Record::from_bytes(&with_field(&sample::record().to_bytes(), 1, 3)).unwrap_err();
    assert_eq!(record, Error::UnknownVersion(3));
    let sealed = sealed_half();
    let peek = |header: &[u8]| custodian::peek_context(&with_header(CUSTODIAN, header)).unwrap_err();
    assert_eq!(peek(&with_field(header_bytes(&sealed), 1, 2)), custodian::Error::UnknownVersion(2));
    assert_eq!(peek(&with_field(header_bytes(&sealed), 2, 9)), custodian::Error::UnknownSuite(9));
    let later = [b"HKE2", &sample::envelope()[4..]].concat();
    assert_eq!(client_share::peek_header(&later).unwrap_err(), Error::Sealed(OpenError::UnknownMagic));
}

#[test]
fn oversize_is_refused_before_it_is_read() {
    let too_large = vec![0u8; client_share::MAX_ENVELOPE + 1];
    assert_eq!(client_share::peek_header(&too_large).unwrap_err(), Error::TooLarge);
    let header = with_header(ENVELOPE, &vec![0; seal::MAX_HEADER + 1]);
    assert_eq!(client_share::peek_header(&header).unwrap_err(), Error::Sealed(OpenError::TooLarge));
    let record = vec![0u8; halfkey_envelope::record::MAX_RECORD + 1];
    assert_eq!(Record::from_bytes(&record).unwrap_err(), Error::TooLarge);
    let half = vec![0u8; custodian::MAX_SEALED_HALF + 1];
    assert_eq!(custodian::peek_context(&half).unwrap_err(), custodian::Error::TooLarge);
    let (data, shred, mut entropy) = (sample::data_key(), sample::shred_key(), DangerSeededEntropy::new(1));
    let sealed = custodian::seal_half(&data, &shred, &sample::half_context(), &half, &mut entropy);
    assert_eq!(sealed.unwrap_err(), custodian::Error::TooLarge);
}

#[test]
fn curves_are_present_ascending_distinct_and_of_the_right_length() {
    let with = |curves: Vec<_>| {
        let h = sample::header();
        Header::new(h.deployment, h.client, h.backup, h.generation, h.method, curves).map(|_| ())
    };
    let (secp, ed) = (sample::curve(Curve::Secp256k1, 0x50), sample::curve(Curve::Ed25519, 0x60));
    assert_eq!(with(vec![]), Err(Error::Curves));
    assert_eq!(with(vec![ed.clone(), secp.clone()]), Err(Error::Curves));
    assert_eq!(with(vec![secp.clone(), secp.clone()]), Err(Error::Curves));
    let mut short = ed;
    short.client_point.pop();
    assert_eq!(with(vec![secp, short]), Err(Error::Length(Curve::Ed25519)));
    let one = Contents::new([(Curve::Ed25519, sample::key(1))]).unwrap();
    let sealed = client_share::seal(&sample::file_key(), &sample::header(), &one, &mut DangerSeededEntropy::new(1));
    assert_eq!(sealed.unwrap_err(), Error::Curves);
}

fn sealed_half() -> Vec<u8> {
    let (data, shred, mut entropy) = (sample::data_key(), sample::shred_key(), DangerSeededEntropy::new(2));
    custodian::seal_half(&data, &shred, &sample::half_context(), sample::HALF, &mut entropy).unwrap()
}

fn open_half(context: &HalfContext, sealed: &[u8]) -> Result<(), custodian::Error> {
    custodian::open_half(&sample::data_key(), &sample::shred_key(), context, sealed).map(|_| ())
}

#[test]
fn every_bit_flip_of_a_custodian_half_is_refused() {
    let sealed = sealed_half();
    assert_eq!(open_half(&sample::half_context(), &sealed), Ok(()));
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open_half(&sample::half_context(), &bad).is_err(), "bit {bit}");
    }
}

#[test]
fn a_half_of_another_row_is_refused_by_the_field_that_differs() {
    let sealed = sealed_half();
    let genuine = sample::half_context();
    let other = sample::id(1);
    let cases = [
        (custodian::Field::Deployment, HalfContext { deployment: DeploymentId::from_bytes(other), ..genuine }),
        (custodian::Field::Client, HalfContext { client: ClientId::from_bytes(other), ..genuine }),
        (custodian::Field::Wallet, HalfContext { wallet: WalletId::from_bytes(other), ..genuine }),
        (custodian::Field::Curve, HalfContext { curve: Curve::Ed25519, ..genuine }),
        (custodian::Field::Pair, HalfContext { pair: PairId::from_bytes(other), ..genuine }),
        (custodian::Field::Purpose, HalfContext { purpose: Purpose::Signing, ..genuine }),
    ];
    for (field, context) in cases {
        assert_eq!(open_half(&context, &sealed), Err(custodian::Error::OtherContext(field)));
    }
}

#[test]
fn a_half_needs_both_keys() {
    let (context, sealed) = (sample::half_context(), sealed_half());
    let (data, shred) = (sample::data_key(), sample::shred_key());
    let other_data = custodian::DataKey::from_bytes(sample::key(1));
    let other_shred = custodian::ShredKey::from_bytes(sample::key(1));
    for (data, shred) in [(&other_data, &shred), (&data, &other_shred)] {
        let refused = custodian::open_half(data, shred, &context, &sealed).unwrap_err();
        assert_eq!(refused, custodian::Error::Sealed(OpenError::WrongKey));
    }
}
