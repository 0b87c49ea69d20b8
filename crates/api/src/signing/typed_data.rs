//! EIP-712 typed data.
//!
//! The encoding is `alloy-dyn-abi`'s. What stands here is stricter than it: JSON with one meaning only, types without
//! recursion and of bounded size (each struct can hold two of the next: a few lines of types would expand without
//! end), and a message whose every field is signed, so that nothing can be shown that is not.

use std::collections::{BTreeMap, BTreeSet};

use alloy_dyn_abi::{DynSolType, TypedData};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::{
    Decoded, MAX_PAYLOAD_BYTES, SigningError, ToSign,
    summary::{Summary, printable},
};
use crate::chain::{Secp256k1Key, ethereum};

/// How deep structs and arrays may hold each other.
const MAX_DEPTH: usize = 16;
/// How many nodes the expanded primary type may have.
const MAX_EXPANDED: usize = 4096;
/// The fields that a domain may have, in the order of EIP-712.
const DOMAIN: [(&str, &str); 5] = [
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
];

type Result<T> = core::result::Result<T, SigningError>;
type Types = BTreeMap<String, Vec<(String, String)>>;

const fn malformed(what: &'static str) -> SigningError {
    SigningError::Malformed(what)
}

/// Typed data that passed every check, with its message as it was written.
#[derive(Debug)]
pub(super) struct Parsed {
    data: TypedData,
    digest: [u8; 32],
}

pub(super) fn decode(json: &str, signer: &Secp256k1Key) -> Result<Decoded> {
    let Parsed { data, digest } = parse(json)?;
    let chain = data.domain.chain_id.map_or_else(|| "ethereum".to_owned(), |id| format!("ethereum:{id}"));
    let mut summary = Summary::new(chain, "sign typed data", ethereum::address(signer));
    summary.to = data.domain.verifying_contract.map(|contract| contract.to_checksum(None));
    for (label, text) in [("application", &data.domain.name), ("version", &data.domain.version)] {
        if let Some(text) = text {
            summary.detail(label, printable(text));
        }
    }
    summary.detail("type", printable(&data.primary_type));
    summary.detail("message", printable(&data.message.to_string()));
    Ok(Decoded { to_sign: ToSign::Digest(digest), summary })
}

/// Reads typed data and computes its signing hash.
pub(super) fn parse(json: &str) -> Result<Parsed> {
    if json.len() > MAX_PAYLOAD_BYTES {
        return Err(SigningError::TooLarge);
    }
    let Strict(value) = serde_json::from_str(json).map_err(|_| malformed("the JSON of typed data"))?;
    let object = value.as_object().ok_or(malformed("typed data is an object"))?;
    exactly(object, &["types", "primaryType", "domain", "message"])?;
    let mut types = types(&object["types"])?;
    check_domain(types.remove("EIP712Domain"), &object["domain"])?;
    let primary = object["primaryType"].as_str().ok_or(malformed("the primary type"))?;
    expanded(&types, primary, &mut BTreeMap::new(), 0)?;
    check_value(&types, primary, &object["message"])?;
    let data = serde_json::from_value::<TypedData>(value.clone()).map_err(|_| malformed("typed data"))?;
    let digest = data.eip712_signing_hash().map_err(|_| malformed("the message of typed data"))?.0;
    Ok(Parsed { data, digest })
}

fn exactly(object: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    let complete = object.len() == keys.len() && keys.iter().all(|key| object.contains_key(*key));
    if complete { Ok(()) } else { Err(malformed("an object of typed data has a field too many or too few")) }
}

/// The structs, each with its fields' names and types.
fn types(value: &Value) -> Result<Types> {
    let wrong = malformed("the types of typed data");
    let mut types = Types::new();
    for (name, fields) in value.as_object().ok_or(wrong)? {
        if !identifier(name) || DynSolType::parse(name).is_ok() {
            return Err(wrong);
        }
        let mut seen = BTreeSet::new();
        let mut parsed = vec![];
        for field in fields.as_array().ok_or(wrong)? {
            let field = field.as_object().ok_or(wrong)?;
            exactly(field, &["name", "type"])?;
            let (Some(name), Some(kind)) = (field["name"].as_str(), field["type"].as_str()) else { return Err(wrong) };
            if !identifier(name) || !seen.insert(name) {
                return Err(wrong);
            }
            parsed.push((name.to_owned(), kind.to_owned()));
        }
        types.insert(name.clone(), parsed);
    }
    Ok(types)
}

/// An identifier of Solidity, of a bearable length.
fn identifier(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    text.len() <= 128 && text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// A declared `EIP712Domain` must be what the domain's fields say: implementations differ in which of the two they
/// hash.
fn check_domain(declared: Option<Vec<(String, String)>>, domain: &Value) -> Result<()> {
    let wrong = malformed("the domain of typed data");
    let domain = domain.as_object().ok_or(wrong)?;
    let present: Vec<_> = DOMAIN.into_iter().filter(|(name, _)| domain.contains_key(*name)).collect();
    if present.len() != domain.len() {
        return Err(wrong);
    }
    for (name, kind) in &present {
        check_atom(kind, &domain[*name])?;
    }
    match declared {
        Some(declared) if !declared.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).eq(present) => Err(wrong),
        _ => Ok(()),
    }
}

/// `T[][3]` as `T[]` and `3`; `None` where `kind` is no array.
fn array(kind: &str) -> Option<(&str, Option<usize>)> {
    let (element, size) = kind.strip_suffix(']')?.rsplit_once('[')?;
    if size.is_empty() {
        return Some((element, None));
    }
    let parsed: usize = size.parse().ok()?;
    (parsed.to_string() == size).then_some((element, Some(parsed)))
}

/// The number of nodes that a type expands to, refusing what is unknown, recursive, too deep or too large.
fn expanded<'a>(types: &'a Types, kind: &'a str, known: &mut BTreeMap<&'a str, usize>, depth: usize) -> Result<usize> {
    let wrong = malformed("a type of typed data is unknown, recursive or too large");
    if depth > MAX_DEPTH {
        return Err(wrong);
    }
    if let Some(size) = known.get(kind) {
        return Ok(*size);
    }
    let size = if let Some((element, _)) = array(kind) {
        1 + expanded(types, element, known, depth + 1)?
    } else if let Some(fields) = types.get(kind) {
        let mut size = 1;
        for (_, kind) in fields {
            size += expanded(types, kind, known, depth + 1)?;
        }
        size
    } else if atomic(kind) {
        1
    } else {
        return Err(wrong);
    };
    if size > MAX_EXPANDED {
        return Err(wrong);
    }
    known.insert(kind, size);
    Ok(size)
}

fn atomic(kind: &str) -> bool {
    use DynSolType::{Address, Bool, Bytes, FixedBytes, Int, String, Uint};
    identifier(kind)
        && matches!(DynSolType::parse(kind), Ok(ty @ (Address | Bool | Bytes | FixedBytes(_) | Int(_) | String | Uint(_)))
            // `uint` is written `uint256` in a type's encoding: only the canonical name has one hash everywhere.
            if ty.sol_type_name() == kind)
}

/// Every field of every struct is there, and no other; every atom has the one JSON form that all implementations read
/// alike.
fn check_value(types: &Types, kind: &str, value: &Value) -> Result<()> {
    if let Some((element, size)) = array(kind) {
        let elements = value.as_array().ok_or(malformed("an array of typed data"))?;
        if size.is_some_and(|size| size != elements.len()) {
            return Err(malformed("the length of an array of typed data"));
        }
        return elements.iter().try_for_each(|value| check_value(types, element, value));
    }
    let Some(fields) = types.get(kind) else { return check_atom(kind, value) };
    let object = value.as_object().ok_or(malformed("a struct of typed data"))?;
    exactly(object, &fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
    fields.iter().try_for_each(|(name, kind)| check_value(types, kind, &object[name]))
}

fn check_atom(kind: &str, value: &Value) -> Result<()> {
    let hex = |text: &str, length: Option<usize>| {
        text.strip_prefix("0x").is_some_and(|digits| {
            digits.chars().all(|c| c.is_ascii_hexdigit())
                && digits.len().is_multiple_of(2)
                && length.is_none_or(|length| digits.len() == 2 * length)
        })
    };
    let fits = match (kind, value) {
        ("bool", Value::Bool(_)) | ("string", Value::String(_)) => true,
        ("address", Value::String(text)) => hex(text, Some(20)),
        ("bytes", Value::String(text)) => hex(text, None),
        (kind, Value::String(text)) if kind.starts_with("bytes") => hex(text, kind[5..].parse().ok()),
        (kind, Value::Number(number)) if kind.starts_with("uint") => number.is_u64(),
        (kind, Value::Number(number)) if kind.starts_with("int") => number.is_i64(),
        (kind, Value::String(text)) if kind.starts_with("uint") => decimal(text) || quantity(text),
        (kind, Value::String(text)) if kind.starts_with("int") => decimal(text.strip_prefix('-').unwrap_or(text)),
        _ => false,
    };
    if fits { Ok(()) } else { Err(malformed("a value of typed data does not fit its type")) }
}

fn decimal(text: &str) -> bool {
    !text.is_empty() && text.len() <= 78 && text.chars().all(|c| c.is_ascii_digit())
}

fn quantity(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    !digits.is_empty() && digits.len() <= 64 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

/// JSON in which no object names a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JSON without fractions and without repeated keys")
    }

    fn visit_bool<E>(self, value: bool) -> core::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> core::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> core::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> core::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut elements: A) -> core::result::Result<Value, A::Error> {
        let mut array = vec![];
        while let Some(Strict(value)) = elements.next_element()? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> core::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.insert(key, value).is_some() {
                return Err(de::Error::custom("a key is repeated"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
#[path = "typed_data_tests.rs"]
mod tests;
