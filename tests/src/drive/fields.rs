//! Partial answers: the `fields` parameter.

use serde_json::{Map, Value};

use super::answer::Failure;

/// What a resource has: names, and the shape of what is inside.
pub(super) struct Shape(pub(super) &'static [(&'static str, Option<&'static Shape>)]);

/// A file.
pub(super) const FILE: Shape = Shape(&[
    ("kind", None),
    ("id", None),
    ("name", None),
    ("mimeType", None),
    ("description", None),
    ("parents", None),
    ("spaces", None),
    ("properties", None),
    ("appProperties", None),
    ("trashed", None),
    ("explicitlyTrashed", None),
    ("createdTime", None),
    ("modifiedTime", None),
    ("version", None),
    ("size", None),
    ("sha256Checksum", None),
    ("ownedByMe", None),
]);
/// A page of a listing.
pub(super) const LIST: Shape =
    Shape(&[("kind", None), ("nextPageToken", None), ("incompleteSearch", None), ("files", Some(&FILE))]);
/// Generated ids.
pub(super) const IDS: Shape = Shape(&[("kind", None), ("space", None), ("ids", None)]);
/// The account.
pub(super) const ABOUT: Shape = Shape(&[("kind", None), ("user", Some(&USER)), ("storageQuota", Some(&QUOTA))]);
const USER: Shape =
    Shape(&[("kind", None), ("displayName", None), ("me", None), ("permissionId", None), ("emailAddress", None)]);
const QUOTA: Shape = Shape(&[("limit", None), ("usage", None), ("usageInDrive", None)]);

/// Fields that Google has and the emulator has not.
const NOT_HERE: &[&str] = &["md5Checksum", "sha1Checksum", "owners", "permissions", "capabilities", "webViewLink"];

/// The part of `value` that the mask names.
///
/// # Errors
/// 400 for a mask that is none, or names what the resource does not have.
pub(super) fn select(mask: &str, shape: &Shape, value: &Value) -> Result<Value, Failure> {
    let mut rest = mask;
    let wanted = list(&mut rest, shape)?;
    if !rest.is_empty() {
        return Err(invalid(mask));
    }
    Ok(pick(&wanted, value))
}

enum Wanted {
    All,
    Parts(Vec<(String, Wanted)>),
}

fn invalid(what: &str) -> Failure {
    Failure::parameter("fields", format!("Invalid field selection {what}"))
}

/// `part , part , …`, up to the end or a closing bracket.
fn list(rest: &mut &str, shape: &Shape) -> Result<Wanted, Failure> {
    let mut parts = Vec::new();
    loop {
        match part(rest, shape)? {
            (name, _) if name == "*" => parts.clear(),
            part => parts.push(part),
        }
        let all = parts.is_empty();
        match rest.strip_prefix(',') {
            Some(more) => *rest = more,
            None if all => return Ok(Wanted::All),
            None => return Ok(Wanted::Parts(parts)),
        }
    }
}

/// `name`, `name/inner` or `name(inner,inner)`.
fn part(rest: &mut &str, shape: &Shape) -> Result<(String, Wanted), Failure> {
    let end = rest.find(|c| "/(),".contains(c)).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    if name == "*" {
        return Ok((name.to_owned(), Wanted::All));
    }
    if NOT_HERE.contains(&name) {
        return Err(Failure::not_here(name));
    }
    let (_, inner) = shape.0.iter().find(|(known, _)| *known == name).ok_or_else(|| invalid(name))?;
    let wanted = match (inner, after.as_bytes().first()) {
        (Some(inner), Some(b'/')) => {
            *rest = &after[1..];
            Wanted::Parts(vec![part(rest, inner)?])
        }
        (Some(inner), Some(b'(')) => {
            *rest = &after[1..];
            let wanted = list(rest, inner)?;
            *rest = rest.strip_prefix(')').ok_or_else(|| invalid(name))?;
            wanted
        }
        (None, Some(b'/' | b'(')) => return Err(invalid(name)),
        _ => Wanted::All,
    };
    Ok((name.to_owned(), wanted))
}

fn pick(wanted: &Wanted, value: &Value) -> Value {
    match (wanted, value) {
        (Wanted::All, value) => value.clone(),
        (wanted, Value::Array(items)) => items.iter().map(|item| pick(wanted, item)).collect(),
        (Wanted::Parts(parts), Value::Object(object)) => {
            let mut picked = Map::new();
            for (name, inner) in parts {
                if let Some(value) = object.get(name) {
                    picked.insert(name.clone(), pick(inner, value));
                }
            }
            Value::Object(picked)
        }
        (Wanted::Parts(_), other) => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mask_takes_what_it_names() {
        let page =
            json!({ "kind": "k", "incompleteSearch": false, "files": [{ "id": "1", "name": "a", "size": "3" }] });
        let taken = |mask: &str| select(mask, &LIST, &page).unwrap();
        assert_eq!(taken("*"), page);
        assert_eq!(taken("files(id,name)"), json!({ "files": [{ "id": "1", "name": "a" }] }));
        assert_eq!(taken("kind,files/size"), json!({ "kind": "k", "files": [{ "size": "3" }] }));
        assert_eq!(taken("nextPageToken"), json!({}));
        assert_eq!(taken("files(*),kind")["files"], page["files"]);
    }

    #[test]
    fn a_mask_of_something_else_is_refused() {
        for mask in ["", "file", "files(id", "files(id))", "kind/x", "files(nope)", "files(id),", "files()"] {
            assert_eq!(select(mask, &LIST, &json!({})).unwrap_err().status, 400, "{mask:?}");
        }
        assert_eq!(select("files(md5Checksum)", &LIST, &json!({})).unwrap_err().status, 501);
    }
}
