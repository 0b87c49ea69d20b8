//! Which call of the API a request is.

use serde::{Deserialize, Serialize};

use super::answer::Failure;

/// The calls of the API that the emulator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Call {
    /// `GET /drive/v3/files`
    List,
    /// `GET /drive/v3/files/generateIds`
    GenerateIds,
    /// `POST /upload/drive/v3/files` or, without content, `POST /drive/v3/files`
    Create,
    /// `PATCH /upload/drive/v3/files/{id}` or, without content, `PATCH /drive/v3/files/{id}`
    Update,
    /// `GET /drive/v3/files/{id}?alt=media`
    Content,
    /// `GET /drive/v3/files/{id}`
    Metadata,
    /// `DELETE /drive/v3/files/{id}`
    Delete,
    /// `GET /drive/v3/about`
    About,
}

/// A request, sorted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) call: Call,
    /// The file's id, where the path has one.
    pub(super) id: String,
    /// Whether the body carries content.
    pub(super) upload: bool,
    pub(super) parameters: Vec<(String, String)>,
}

/// Understood in every call.
const EVERYWHERE: &[&str] = &["alt", "fields", "key", "prettyPrint", "quotaUser", "$.xgafv"];

impl Asked {
    /// Sorts a request by its method, path and query.
    ///
    /// # Errors
    /// 404 for what is no method of the API, 501 for what the emulator leaves out, 400 for a parameter that this
    /// method does not have.
    pub(super) fn parse(method: &str, path: &str, parameters: Vec<(String, String)>) -> Result<Self, Failure> {
        let (upload, path) = match path.strip_prefix("/upload") {
            Some(rest) => (true, rest),
            None if path.starts_with("/resumable/") => return Err(Failure::not_here("resumable uploads")),
            None => (false, path),
        };
        let path = path.strip_prefix("/drive/v3/").ok_or_else(Failure::no_method)?;
        let segments: Vec<&str> = path.split('/').collect();
        let media = parameters.iter().any(|(name, value)| name == "alt" && value == "media");
        let (call, id) = match (method, upload, segments.as_slice()) {
            ("GET", false, ["about"]) => (Call::About, ""),
            ("GET", false, ["files"]) => (Call::List, ""),
            ("GET", false, ["files", "generateIds"]) => (Call::GenerateIds, ""),
            ("POST", _, ["files"]) => (Call::Create, ""),
            ("GET", false, ["files", id]) if media => (Call::Content, *id),
            ("GET", false, ["files", id]) => (Call::Metadata, *id),
            ("PATCH", _, ["files", id]) => (Call::Update, *id),
            ("DELETE", false, ["files", id]) => (Call::Delete, *id),
            _ => return Err(Failure::no_method()),
        };
        let asked = Self { call, id: id.to_owned(), upload, parameters };
        asked.only_known_parameters()?;
        Ok(asked)
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number within limits, or its default.
    pub(super) fn number(&self, name: &str, default: usize) -> Result<usize, Failure> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if (1..=1000).contains(&number) => Ok(number),
            _ => {
                let message = format!("Invalid value '{text}'. Values must be within the range: [1, 1000]");
                Err(Failure::parameter(name, message))
            }
        }
    }

    fn only_known_parameters(&self) -> Result<(), Failure> {
        let own: &[&str] = match self.call {
            Call::List => &["q", "spaces", "pageSize", "pageToken", "orderBy", "corpora"],
            Call::GenerateIds => &["space", "count", "type"],
            Call::Create | Call::Update if self.upload => &["uploadType"],
            _ => &[],
        };
        let of_google = |name: &str| {
            name.starts_with("supports")
                || name.starts_with("include")
                || ["addParents", "removeParents"].contains(&name)
        };
        for (at, (name, _)) in self.parameters.iter().enumerate() {
            if of_google(name) {
                return Err(Failure::not_here(name));
            }
            let twice = self.parameters.iter().skip(at + 1).any(|(other, _)| other == name);
            if twice || !EVERYWHERE.contains(&name.as_str()) && !own.contains(&name.as_str()) {
                let message = format!("Invalid request: the parameter {name:?} is unknown, or there twice.");
                return Err(Failure::parameter(name, message));
            }
        }
        match self.get("alt") {
            None | Some("json") => Ok(()),
            Some("media") if self.call == Call::Content => Ok(()),
            Some(_) => Err(Failure::value("alt")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(method: &str, path: &str, query: &[(&str, &str)]) -> Result<Call, Failure> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked::parse(method, path, query).map(|asked| asked.call)
    }

    #[test]
    fn paths_are_those_of_google_and_no_others() {
        let files = "/drive/v3/files";
        assert_eq!(parse("GET", files, &[]), Ok(Call::List));
        assert_eq!(parse("GET", "/drive/v3/files/generateIds", &[]), Ok(Call::GenerateIds));
        assert_eq!(parse("POST", "/upload/drive/v3/files", &[("uploadType", "multipart")]), Ok(Call::Create));
        assert_eq!(parse("GET", "/drive/v3/files/x", &[("alt", "media")]), Ok(Call::Content));
        assert_eq!(parse("GET", "/drive/v3/files/x", &[]), Ok(Call::Metadata));
        assert_eq!(parse("PUT", files, &[]), Err(Failure::no_method()));
        assert_eq!(parse("GET", "/upload/drive/v3/files", &[]), Err(Failure::no_method()));
        assert_eq!(parse("GET", "/drive/v2/files", &[]), Err(Failure::no_method()));
        assert_eq!(parse("POST", "/resumable/upload/drive/v3/files", &[]).unwrap_err().status, 501);
    }

    #[test]
    fn parameters_are_those_of_the_method() {
        let files = "/drive/v3/files";
        assert_eq!(parse("GET", files, &[("pagesize", "1")]).unwrap_err().status, 400);
        assert_eq!(parse("GET", files, &[("q", "a"), ("q", "b")]).unwrap_err().status, 400);
        assert_eq!(parse("GET", files, &[("access_token", "t")]).unwrap_err().status, 400);
        assert_eq!(parse("GET", files, &[("alt", "media")]).unwrap_err().status, 400);
        assert_eq!(parse("GET", files, &[("supportsAllDrives", "true")]).unwrap_err().status, 501);
    }
}
