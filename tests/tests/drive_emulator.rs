//! The emulator of Google Drive: Google's own clients take it for Google Drive, and it fails as it is told to.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use halfkey_tests::{
    chains::node,
    drive::{Call, DriveEmulator, Entry, Fault, Grant, Refusal, SCOPE_FILE, installed},
};
use serde_json::{Value, json};

/// Runs one of Google's clients; what it saw.
async fn client(mut program: Command, drive: &DriveEmulator) -> Value {
    let revoked = drive.token("user");
    drive.revoke(&revoked);
    drive.quota("full", 255);
    let given = json!({
        "rootUrl": format!("{}/", drive.url()),
        "main": drive.token("user"),
        "revoked": revoked,
        "unscoped": drive.issue(Grant::app_data("user").with_scopes(&["openid"])),
        "visible": drive.issue(Grant::app_data("user").with_scopes(&[SCOPE_FILE])),
        "full": drive.token("full"),
    });
    let seen = tokio::task::spawn_blocking(move || {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    });
    serde_json::from_slice(&seen.await.unwrap()).unwrap()
}

fn refused(status: u16, reason: &str, domain: &str) -> Value {
    json!({ "status": status, "reason": reason, "domain": domain })
}

/// What both clients see, value by value.
fn expected() -> Value {
    let octets = "application/octet-stream";
    json!({
        "email": "user@example.com",
        "generated": ["appDataFolder", 7],
        "made": (0..7).map(|at| json!([true, format!("n{at}"), octets])).collect::<Vec<_>>(),
        "intact": [true, true, true, true, true, true, true],
        "metadata": { "size": "256", "sha256Checksum": true, "parents": ["appDataFolder"], "trashed": false },
        "sameIdAgain": refused(409, "fileIdInUse", "global"),
        "inventedId": refused(400, "invalid", "global"),
        "stillIntact": true,
        "pages": [["n6", "n5", "n4"], ["n3", "n2", "n1"], ["n0"]],
        "found": [["n2"]],
        "otherSpace": refused(403, "insufficientScopes", "global"),
        "visible": [],
        "changed": ["n1", true],
        "renamed": "renamed",
        "toTheBin": refused(403, "notSupportedForAppDataFolderFiles", "global"),
        "deleted": true,
        "readDeleted": refused(404, "notFound", "global"),
        "deletedAgain": refused(404, "notFound", "global"),
        "revoked": refused(401, "authError", "global"),
        "unscoped": refused(403, "insufficientPermissions", "global"),
        "full": refused(403, "storageQuotaExceeded", "usageLimits"),
        "notRetried": refused(403, "dailyLimitExceeded", "usageLimits"),
    })
}

fn assert_seen(mut seen: Value, retried: Value, drive: &DriveEmulator) {
    let mut expected = expected();
    expected["retried"] = retried;
    for (name, expected) in expected.as_object().unwrap() {
        assert_eq!(seen[name].take(), *expected, "{name}");
    }
    assert!(seen.as_object().unwrap().values().all(Value::is_null), "more than is asserted: {seen}");
    let names: Vec<_> = drive.files("user").into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["renamed", "n2", "n3", "n4", "n5", "n6"]);
    assert_eq!(drive.files("full"), []);
}

#[tokio::test]
async fn googles_python_client_accepts_it() {
    let drive = DriveEmulator::start().await.unwrap();
    let folder = installed().unwrap();
    let mut python = Command::new(folder.join(".venv/bin/python"));
    python.arg(folder.join("google_client.py"));
    let retried = ["tooManyRequests", "userRateLimitExceeded", "rateLimitExceeded", "backendError", "internalError"];
    let retried = retried.map(|answer| json!([answer, "n2", 1]));
    assert_seen(client(python, &drive).await, json!(retried), &drive);
}

#[tokio::test]
async fn googles_javascript_client_accepts_it() {
    let drive = DriveEmulator::start().await.unwrap();
    let mut node = node();
    node.arg(installed().unwrap().join("google_client.mjs"));
    let retried = ["tooManyRequests", "backendError", "internalError"].map(|answer| json!([answer, "n2", 1]));
    assert_seen(client(node, &drive).await, json!(retried), &drive);
}

/// A client without any of Google's code, for what theirs hide.
struct Plain {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Plain {
    fn of(drive: &DriveEmulator, token: String) -> Self {
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), url: drive.url().to_owned(), token }
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url)).header("content-type", kind);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(body.to_vec());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", b"").await
    }

    /// All names that one whole listing shows.
    async fn names(&self) -> Vec<Value> {
        let (status, page) = self.get("/drive/v3/files?spaces=appDataFolder&q=trashed=false").await;
        assert_eq!((status, &page["incompleteSearch"]), (200, &json!(false)));
        page["files"].as_array().unwrap().iter().map(|file| file["name"].clone()).collect()
    }

    async fn create(&self, id: Option<&str>) -> (u16, Value) {
        let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
        let body = format!(
            "--b\r\nContent-Type: application/json\r\n\r\n{{{id}\"name\":\"n\",\"parents\":[\"appDataFolder\"]}}\r\n\
             --b\r\nContent-Type: application/octet-stream\r\n\r\nold\r\n--b--"
        );
        let path = "/upload/drive/v3/files?uploadType=multipart";
        self.send("POST", path, "multipart/related; boundary=b", body.as_bytes()).await
    }
}

#[tokio::test]
async fn the_hidden_folder_belongs_to_one_user_and_one_project() {
    let drive = DriveEmulator::start().await.unwrap();
    let plain = |grant: Grant| Plain::of(&drive, drive.issue(grant));
    let alice = plain(Grant::app_data("alice"));
    let (status, file) = alice.create(None).await;
    assert_eq!(status, 200);
    let path = format!("/drive/v3/files/{}", file["id"].as_str().unwrap());
    assert_eq!(plain(Grant::app_data("alice")).names().await, ["n"]);
    let strangers = [
        Grant::app_data("bob"),
        Grant::app_data("alice").of_project("2"),
        Grant::app_data("alice").with_scopes(&[SCOPE_FILE]),
    ];
    for stranger in strangers {
        let stranger = plain(stranger);
        for (method, path) in [("GET", path.clone()), ("GET", format!("{path}?alt=media")), ("DELETE", path.clone())] {
            assert_eq!(stranger.send(method, &path, "", b"").await.0, 404);
        }
    }
    assert_eq!(plain(Grant::app_data("bob")).names().await, [] as [Value; 0]);
    // An id is generated for one user and one space.
    let (_, ids) = alice.get("/drive/v3/files/generateIds?space=appDataFolder&count=1").await;
    let id = ids["ids"][0].as_str().unwrap();
    assert_eq!(plain(Grant::app_data("bob")).create(Some(id)).await.0, 400);
    assert_eq!(alice.create(Some(id)).await.0, 200);
    assert_eq!(alice.create(Some(id)).await.0, 409);
}

#[tokio::test]
async fn requests_without_a_good_token_are_refused() {
    let drive = DriveEmulator::start().await.unwrap();
    let bare = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/drive/v3/files?spaces=appDataFolder", drive.url());
    assert_eq!(bare.get(&url).send().await.unwrap().status(), 403);
    assert_eq!(bare.get(&url).header("authorization", "Basic x").send().await.unwrap().status(), 401);
    let answer = bare.get(&url).header("authorization", "Bearer unknown").send().await.unwrap();
    assert_eq!(
        answer.headers()["www-authenticate"],
        "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\""
    );
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&json!(401), &json!("UNAUTHENTICATED")));
    let journal: Vec<_> = drive.journal().into_iter().map(|entry| entry.status).collect();
    assert_eq!(journal, [403, 401, 401]);
}

#[tokio::test]
async fn calls_fail_as_they_are_told_to_and_recover() {
    let drive = DriveEmulator::start().await.unwrap();
    let plain = Plain::of(&drive, drive.token("user"));
    let all = [
        (Refusal::Unauthenticated, 401),
        (Refusal::InsufficientPermissions, 403),
        (Refusal::StorageQuotaExceeded, 403),
        (Refusal::RateLimitExceeded, 403),
        (Refusal::UserRateLimitExceeded, 403),
        (Refusal::DailyLimitExceeded, 403),
        (Refusal::AppNotAuthorizedToFile, 403),
        (Refusal::AccessNotConfigured, 403),
        (Refusal::NotFound, 404),
        (Refusal::FileIdInUse, 409),
        (Refusal::TooManyRequests, 429),
        (Refusal::InternalError, 500),
        (Refusal::BadGateway, 502),
        (Refusal::BackendError, 503),
    ];
    for (answer, _) in all {
        drive.fail(Fault::next(Call::List, answer));
    }
    for (answer, status) in all {
        let (seen, body) = plain.get("/drive/v3/files?spaces=appDataFolder").await;
        assert_eq!(seen, status, "{answer:?}");
        let code = if status == 502 { Value::Null } else { json!(status) };
        assert_eq!(body["error"]["code"], code, "{answer:?}");
    }
    assert_eq!(plain.names().await, [] as [Value; 0]);

    // The work is done, the answer says it is not, and the retry meets its own file.
    drive.fail(Fault::next(Call::Create, Refusal::BackendError).done_all_the_same().retry_after(7));
    let (_, ids) = plain.get("/drive/v3/files/generateIds?space=appDataFolder&count=1").await;
    let id = ids["ids"][0].as_str().unwrap();
    assert_eq!(plain.create(Some(id)).await.0, 503);
    assert_eq!(plain.create(Some(id)).await.0, 409);
    assert_eq!(drive.files("user").len(), 1);

    drive.fail(Fault::next(Call::List, Refusal::TooManyRequests).after(1).times(2).retry_after(7));
    let url = format!("{}/drive/v3/files?spaces=appDataFolder", drive.url());
    let mut seen = Vec::new();
    for _ in 0..4 {
        let request = plain.http.get(&url).header("authorization", format!("Bearer {}", plain.token));
        let answer = request.send().await.unwrap();
        seen.push((answer.status().as_u16(), answer.headers().get("retry-after").is_some_and(|after| after == "7")));
    }
    assert_eq!(seen, [(200, false), (429, true), (429, true), (200, false)]);
}

#[tokio::test]
async fn listings_can_be_incomplete_late_and_short() {
    let drive = DriveEmulator::start().await.unwrap();
    let plain = Plain::of(&drive, drive.token("user"));
    let (first, second) = (drive.put("user", "same", b"1"), drive.put("user", "same", b"2"));
    assert_eq!(plain.names().await, ["same", "same"]);
    drive.incomplete_searches(1);
    let (_, page) = plain.get("/drive/v3/files?spaces=appDataFolder").await;
    assert_eq!((&page["incompleteSearch"], &page["files"]), (&json!(true), &json!([])));
    drive.pages_of(1);
    let (_, page) = plain.get("/drive/v3/files?spaces=appDataFolder&pageSize=1000").await;
    assert_eq!(page["files"].as_array().unwrap().len(), 1);
    let token = page["nextPageToken"].as_str().unwrap();
    assert_eq!(plain.get("/drive/v3/files?spaces=appDataFolder&pageToken=other").await.0, 400);
    assert_eq!(
        plain.get(&format!("/drive/v3/files?spaces=appDataFolder&q=trashed=true&pageToken={token}")).await.0,
        400
    );
    let (_, last) = plain.get(&format!("/drive/v3/files?spaces=appDataFolder&pageToken={token}")).await;
    assert_eq!((&last["files"][0]["id"], &last["nextPageToken"]), (&json!(first), &Value::Null));
    drive.heal();
    drive.lag(2);
    drive.put("user", "late", b"3");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(plain.names().await.len());
    }
    assert_eq!(seen, [2, 2, 3]);
    assert!(drive.trash(&second) && drive.delete(&first) && !drive.delete(&first));
    assert_eq!(plain.names().await, ["late"]);
    assert_eq!(drive.delete_hidden_app_data("user"), 2);
    assert_eq!(plain.names().await, [] as [Value; 0]);
}

#[tokio::test]
async fn contents_can_be_read_in_part_and_read_back_wrong() {
    let drive = DriveEmulator::start().await.unwrap();
    let id = drive.put("user", "n", b"abc");
    let token = drive.token("user");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let read = async |range: &str| {
        let url = format!("{}/drive/v3/files/{id}?alt=media", drive.url());
        let request = http.get(url).header("authorization", format!("Bearer {token}")).header("range", range);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    };
    assert_eq!(read("bytes=1-1").await, (206, b"b".to_vec()));
    assert_eq!(read("bytes=1-").await, (206, b"bc".to_vec()));
    assert_eq!(read("bytes=3-").await.0, 416);
    drive.corrupt_reads(1);
    assert_eq!(read("bytes=0-").await.1, b"abb");
    assert_eq!(read("bytes=0-").await.1, b"abc");
    assert!(drive.overwrite(&id, b"other"));
    assert_eq!(read("bytes=0-").await.1, b"other");
}

#[tokio::test]
async fn the_program_serves_until_its_input_ends_and_is_told_over_http() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halfkey-drive-emulator"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap();
    let plain = Plain { http: reqwest::Client::builder().no_proxy().build().unwrap(), url, token: String::new() };
    let tell = async |command: Value| {
        let (status, answer) = plain.send("POST", "/emulator", "", command.to_string().as_bytes()).await;
        assert_eq!(status, 200);
        answer
    };
    let grant = json!({ "op": "issue", "account": "user", "project": "1", "scopes": Grant::app_data("user").scopes });
    let token = tell(grant).await["token"].as_str().unwrap().to_owned();
    let user = Plain { http: plain.http.clone(), url: plain.url.clone(), token: token.clone() };
    assert_eq!(user.create(None).await.0, 200);
    tell(json!({ "op": "fail", "calls": "list", "answer": "backendError", "times": 1 })).await;
    assert_eq!(user.get("/drive/v3/files?spaces=appDataFolder").await.0, 503);
    assert_eq!(tell(json!({ "op": "files", "account": "user" })).await["files"][0]["content"], json!(b"old"));
    let journal = tell(json!({ "op": "journal" })).await;
    assert!(!journal.to_string().contains(&token), "no token in the journal");
    let journal: Vec<Entry> = serde_json::from_value(journal["journal"].clone()).unwrap();
    let calls: Vec<_> = journal.iter().map(|entry| (entry.verb.as_str(), entry.call.unwrap(), entry.status)).collect();
    assert_eq!(calls, [("POST", Call::Create, 200), ("GET", Call::List, 503)]);
    assert_eq!(plain.send("POST", "/emulator", "", b"{}").await.0, 400);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none(), "one line is all it prints");
}
