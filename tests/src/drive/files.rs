//! The methods of the API.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use halfkey_cli::output::time;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Grant, Refusal, SCOPE_APPDATA, SCOPE_DRIVE, SCOPE_FILE,
    answer::{self, Failure},
    call::{Asked, Call},
    fields::{self, Shape},
    multipart,
    query::Query,
    state::{Drive, File, Page, Space, State, random_id},
};

const FOLDER: &str = "application/vnd.google-apps.";

/// Carries a call out.
///
/// # Errors
/// As Google does.
pub(super) fn carry_out(
    drive: &Drive,
    asked: &Asked,
    grant: &Grant,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Failure> {
    if ![SCOPE_APPDATA, SCOPE_FILE, SCOPE_DRIVE].iter().any(|scope| grant.has(scope)) {
        return Err(Refusal::InsufficientPermissions.into());
    }
    let mut state = drive.lock();
    let state = &mut *state;
    match asked.call {
        Call::About => about(state, asked, grant),
        Call::GenerateIds => generate_ids(state, asked, grant),
        Call::List => list(state, asked, grant),
        Call::Create => create(state, asked, grant, &Written::read(asked, headers, body)?),
        Call::Update => update(state, asked, grant, Written::read(asked, headers, body)?),
        Call::Metadata => {
            let file = state.file(&asked.id, grant)?;
            partial(asked, "kind,id,name,mimeType", &fields::FILE, &resource(file))
        }
        Call::Content => content(state, asked, grant, headers),
        Call::Delete => {
            state.file(&asked.id, grant)?;
            state.files.remove(&asked.id);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

fn partial(asked: &Asked, default: &str, shape: &Shape, whole: &Value) -> Result<Response, Failure> {
    let value = fields::select(asked.get("fields").unwrap_or(default), shape, whole)?;
    Ok(answer::json(StatusCode::OK, &value))
}

fn space(name: &str, parameter: &str, grant: &Grant) -> Result<Space, Failure> {
    let space = match name {
        "drive" => Space::Drive,
        "appDataFolder" => Space::AppData,
        "photos" => return Err(Failure::not_here("the space of photos")),
        _ => return Err(Failure::value(parameter)),
    };
    if grant.opens(space) { Ok(space) } else { Err(Failure::closed_space(parameter)) }
}

fn about(state: &State, asked: &Asked, grant: &Grant) -> Result<Response, Failure> {
    let mask = asked.get("fields").ok_or_else(|| Failure::required("fields"))?;
    let mut quota = json!({ "usage": state.used(&grant.account).to_string() });
    if let Some(limit) = state.quota.get(&grant.account) {
        quota["limit"] = json!(limit.to_string());
    }
    let whole = json!({
        "kind": "drive#about",
        "user": {
            "kind": "drive#user",
            "displayName": grant.account,
            "me": true,
            "permissionId": hex::encode(&Sha256::digest(&grant.account)[..8]),
            "emailAddress": format!("{}@example.com", grant.account),
        },
        "storageQuota": quota,
    });
    partial(asked, mask, &fields::ABOUT, &whole)
}

fn generate_ids(state: &mut State, asked: &Asked, grant: &Grant) -> Result<Response, Failure> {
    let space = space(asked.get("space").unwrap_or("drive"), "space", grant)?;
    if asked.get("type").is_some_and(|kind| kind != "files") {
        return Err(Failure::not_here("ids of anything but files"));
    }
    let ids: Vec<_> = (0..asked.number("count", 10)?).map(|_| random_id()).collect();
    for id in &ids {
        state.ids.insert(id.clone(), (grant.account.clone(), space));
    }
    let whole = json!({ "kind": "drive#generatedIds", "space": space.as_str(), "ids": ids });
    partial(asked, "*", &fields::IDS, &whole)
}

fn list(state: &mut State, asked: &Asked, grant: &Grant) -> Result<Response, Failure> {
    let space = space(asked.get("spaces").unwrap_or("drive"), "spaces", grant)?;
    if asked.get("corpora").is_some_and(|corpora| corpora != "user") {
        return Err(Failure::not_here("corpora other than the user's"));
    }
    let query = asked.get("q").map_or(Ok(Query::All), Query::parse)?;
    let size = asked.number("pageSize", 100)?.min(state.page_limit.unwrap_or(usize::MAX));
    let the_same = ["q", "spaces", "orderBy"].map(|name| asked.get(name).unwrap_or_default()).join("\n");
    let (mut left, incomplete) = match asked.get("pageToken") {
        Some(token) => {
            let page = state.pages.get(token).filter(|page| page.account == grant.account && page.asked == the_same);
            (page.ok_or_else(|| Failure::value("pageToken"))?.left.clone(), false)
        }
        None => {
            let (mut seen, incomplete) = state.visible(grant, space);
            seen.retain(|file| query.holds(file));
            order(&mut seen, asked.get("orderBy").unwrap_or_default())?;
            (seen.into_iter().map(|file| file.id.clone()).collect(), incomplete)
        }
    };
    let rest = left.split_off(size.min(left.len()));
    let files: Vec<_> = left.iter().filter_map(|id| state.files.get(id)).map(resource).collect();
    let mut whole = json!({ "kind": "drive#fileList", "incompleteSearch": incomplete, "files": files });
    if !rest.is_empty() {
        let token = format!("~!!~{}", random_id());
        state.pages.insert(token.clone(), Page { account: grant.account.clone(), asked: the_same, left: rest });
        whole["nextPageToken"] = json!(token);
    }
    let default = "kind,nextPageToken,incompleteSearch,files(kind,id,name,mimeType)";
    partial(asked, default, &fields::LIST, &whole)
}

fn order(files: &mut [&File], by: &str) -> Result<(), Failure> {
    // The last key first: the sort keeps the order of what is equal.
    for key in by.split(',').rev().map(str::trim).filter(|key| !key.is_empty()) {
        let (name, descending) = key.strip_suffix(" desc").map_or((key, false), |name| (name.trim_end(), true));
        match name {
            "createdTime" => files.sort_by_key(|file| file.created),
            "modifiedTime" => files.sort_by_key(|file| file.modified),
            "name" => files.sort_by(|one, other| one.name.cmp(&other.name)),
            _ => return Err(Failure::not_here(&format!("the order by {name}"))),
        }
        if descending {
            files.reverse();
        }
    }
    Ok(())
}

/// The body of a create or an update.
struct Written {
    metadata: Map<String, Value>,
    /// Type and bytes, where there is a content.
    content: Option<(Option<String>, Vec<u8>)>,
}

impl Written {
    fn read(asked: &Asked, headers: &HeaderMap, body: &[u8]) -> Result<Self, Failure> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !asked.upload {
            return Ok(Self { metadata: metadata(kind, body)?, content: None });
        }
        match asked.get("uploadType") {
            Some("media") => {
                let kind = (!kind.is_empty()).then(|| kind.to_owned());
                Ok(Self { metadata: Map::new(), content: Some((kind, body.to_vec())) })
            }
            Some("multipart") => {
                let parts: Result<[_; 2], _> = multipart::parts(kind, body)?.try_into();
                let [first, second] = parts.map_err(|_| Failure::body("Multipart upload needs two parts."))?;
                let metadata = metadata(first.kind.as_deref().unwrap_or_default(), &first.content)?;
                Ok(Self { metadata, content: Some((second.kind, second.content)) })
            }
            Some("resumable") => Err(Failure::not_here("resumable uploads")),
            _ => Err(Failure::value("uploadType")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.metadata.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| Failure::body(format!("{name} is not a text"))),
        }
    }

    /// Sets what the body says about a file.
    fn apply(&self, file: &mut File) -> Result<(), Failure> {
        if let Some(name) = self.text("name")? {
            name.clone_into(&mut file.name);
        }
        if let Some((kind, _)) = &self.content {
            file.mime_type = kind.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
        }
        if let Some(kind) = self.text("mimeType")? {
            if kind.starts_with(FOLDER) {
                return Err(Failure::not_here("folders, and other things without content"));
            }
            kind.clone_into(&mut file.mime_type);
        }
        if let Some(description) = self.text("description")? {
            file.description = Some(description.to_owned());
        }
        for (name, kept) in [("properties", &mut file.properties), ("appProperties", &mut file.app_properties)] {
            match self.metadata.get(name) {
                None => {}
                Some(Value::Object(wanted)) => kept.extend(wanted.clone()),
                Some(_) => return Err(Failure::body(format!("{name} is not an object"))),
            }
            kept.retain(|_, value| !value.is_null());
        }
        if let Some((_, content)) = &self.content {
            file.content.clone_from(content);
        }
        Ok(())
    }
}

fn metadata(kind: &str, body: &[u8]) -> Result<Map<String, Value>, Failure> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    if !kind.to_ascii_lowercase().starts_with("application/json") {
        return Err(Failure::body(format!("Unsupported content with type: {kind}")));
    }
    let metadata: Map<String, Value> = serde_json::from_slice(body).map_err(|_| Failure::body("Parse Error"))?;
    let known = ["kind", "id", "name", "mimeType", "description", "parents", "properties", "appProperties", "trashed"];
    match metadata.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Failure::not_here(&format!("writing the field {key}"))),
        None => Ok(metadata),
    }
}

fn create(state: &mut State, asked: &Asked, grant: &Grant, written: &Written) -> Result<Response, Failure> {
    let parents = match written.metadata.get("parents") {
        None => json!(["root"]),
        Some(parents) => parents.clone(),
    };
    let space = match parents.as_array().map(Vec::as_slice) {
        Some([Value::String(parent)]) if parent == "appDataFolder" => Space::AppData,
        Some([Value::String(parent)]) if parent == "root" => Space::Drive,
        Some([Value::String(parent)]) => return Err(Failure::no_file(parent)),
        _ => return Err(Failure::value("parents")),
    };
    if !grant.opens(space) {
        return Err(Failure::closed_space("parents"));
    }
    if written.metadata.contains_key("trashed") {
        return Err(Failure::body("The resource body includes fields which are not directly writable."));
    }
    let id = match written.text("id")? {
        None => random_id(),
        Some(id) if state.files.contains_key(id) => return Err(Refusal::FileIdInUse.into()),
        Some(id) => match state.ids.get(id) {
            Some((account, of)) if *account == grant.account && *of == space => id.to_owned(),
            _ => return Err(Failure::id_not_usable()),
        },
    };
    let mut file = File::new(id, &grant.account, &grant.project, space, "Untitled");
    written.apply(&mut file)?;
    state.room_for(&grant.account, file.content.len(), 0)?;
    let id = state.add(file);
    partial(asked, "kind,id,name,mimeType", &fields::FILE, &resource(state.file(&id, grant)?))
}

fn update(state: &mut State, asked: &Asked, grant: &Grant, written: Written) -> Result<Response, Failure> {
    let mut file = state.file(&asked.id, grant)?.clone();
    if written.metadata.contains_key("id") || written.metadata.contains_key("parents") {
        return Err(Failure::body("The resource body includes fields which are not directly writable."));
    }
    if let Some(trashed) = written.metadata.get("trashed") {
        if file.space == Space::AppData {
            return Err(Failure::hidden_folder());
        }
        file.trashed = trashed.as_bool().ok_or_else(|| Failure::body("trashed is not a boolean"))?;
    }
    let before = file.content.len();
    written.apply(&mut file)?;
    state.room_for(&grant.account, file.content.len(), before)?;
    file.version += 1;
    file.modified = state.tick();
    let whole = resource(&file);
    *state.file_mut(&asked.id, grant)? = file;
    partial(asked, "kind,id,name,mimeType", &fields::FILE, &whole)
}

fn content(state: &mut State, asked: &Asked, grant: &Grant, headers: &HeaderMap) -> Result<Response, Failure> {
    let file = state.file(&asked.id, grant)?;
    let (mut bytes, kind) = (file.content.clone(), file.mime_type.clone());
    if state.corrupts() {
        // One bit of what is there, or a byte where nothing is.
        match bytes.last_mut() {
            Some(last) => *last ^= 1,
            None => bytes.push(0),
        }
    }
    let kind = HeaderValue::from_str(&kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response());
    };
    let (first, last) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(Failure::range)?;
    let first: usize = first.parse().map_err(|_| Failure::range())?;
    let end = last.parse().map_or(bytes.len(), |last: usize| last.saturating_add(1).min(bytes.len()));
    let part = bytes.get(first..end).filter(|part| !part.is_empty()).ok_or_else(Failure::range)?;
    let place = format!("bytes {first}-{}/{}", end - 1, bytes.len());
    Ok((StatusCode::PARTIAL_CONTENT, [(header::CONTENT_TYPE, kind)], [(header::CONTENT_RANGE, place)], part.to_vec())
        .into_response())
}

fn resource(file: &File) -> Value {
    let mut value = json!({
        "kind": "drive#file",
        "id": file.id,
        "name": file.name,
        "mimeType": file.mime_type,
        "parents": [file.parent()],
        "spaces": [file.space.as_str()],
        "trashed": file.trashed,
        "explicitlyTrashed": file.trashed,
        "createdTime": moment(file.created),
        "modifiedTime": moment(file.modified),
        "version": file.version.to_string(),
        "size": file.content.len().to_string(),
        "sha256Checksum": hex::encode(Sha256::digest(&file.content)),
        "ownedByMe": true,
    });
    if let Some(description) = &file.description {
        value["description"] = json!(description);
    }
    for (name, kept) in [("properties", &file.properties), ("appProperties", &file.app_properties)] {
        if !kept.is_empty() {
            value[name] = json!(kept);
        }
    }
    value
}

/// RFC 3339.
fn moment(ms: u64) -> String {
    time(ms).replacen(' ', "T", 1).replace(" UTC", ".000Z")
}
