//! The keeper over real sockets and files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use halfkey_envelope::{
    frame,
    keeper::{self, Answer, EvidenceKind, Refusal, Request},
};
use halfkey_evidence::{Expected, Policy, verify};
use halfkey_keeper::{Config, Error, Listen, Ready, RootError, run, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
};

struct Running {
    ready: Ready,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

async fn start(config: Config) -> Result<Running, Error> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (announce, announced) = oneshot::channel();
    let task = tokio::spawn(serve(
        config,
        |ready| {
            announce.send(*ready).unwrap();
            Ok(())
        },
        async { drop(stopped.await) },
    ));
    match announced.await {
        Ok(ready) => Ok(Running { ready, stop, task }),
        Err(_) => Err(task.await.unwrap().unwrap_err()),
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn config(folder: &Path) -> Config {
    let mut config = Config::new(Listen::Unix(folder.join("keeper.sock")), folder.join("data"));
    config.timeout = Duration::from_millis(200);
    config
}

async fn connect(folder: &Path) -> UnixStream {
    UnixStream::connect(folder.join("keeper.sock")).await.unwrap()
}

async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &[u8]) -> Answer {
    stream.write_all(&frame::encode(request).unwrap()).await.unwrap();
    let mut answer = vec![0; stream.read_u32().await.unwrap() as usize];
    stream.read_exact(&mut answer).await.unwrap();
    keeper::decode_answer(&answer).unwrap()
}

/// Whether the keeper has ended the connection.
async fn is_closed(mut stream: UnixStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn it_tells_its_key_and_evidence_and_refuses_rubbish() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(config(folder.path())).await.unwrap();
    let mut stream = connect(folder.path()).await;
    let Answer::Info(info) = ask(&mut stream, &keeper::encode_request(&Request::Info)).await else { panic!() };
    assert_eq!((info.key_id, info.public_key), (running.ready.key_id, running.ready.public_key));
    assert_eq!(info.evidence, EvidenceKind::InsecureDev);
    let request = keeper::encode_request(&Request::Evidence { nonce: [5; 32] });
    let Answer::Evidence(evidence) = ask(&mut stream, &request).await else { panic!() };
    let expected = Expected { nonce: &[5; 32], key_id: info.key_id, public_key: &info.public_key, now_ms: 0 };
    assert_eq!(verify(&evidence, &expected, &Policy::nothing()), Err(halfkey_evidence::Refusal::InsecureDev));
    let (stanza, sealed) = (vec![0; 9], vec![1; 99]);
    let release = Request::Release { key_id: info.key_id, stanza, sealed };
    assert_eq!(ask(&mut stream, &keeper::encode_request(&release)).await, Answer::Refused(Refusal::BadRequest));
    // {1: 1, 2: [4, [h'00']]}: what a later version may ask.
    let later = ask(&mut stream, &[0xa2, 1, 1, 2, 0x82, 4, 0x81, 0x41, 0]).await;
    assert_eq!(later, Answer::Refused(Refusal::UnsupportedRequest));
    assert_eq!(ask(&mut stream, b"rubbish").await, Answer::Refused(Refusal::Malformed));
    running.stop().await;
    assert!(!folder.path().join("keeper.sock").exists());
}

#[tokio::test]
async fn its_key_outlives_it_and_another_folder_has_another() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut keys = vec![];
    for (folder, key_id) in [(&one, 1), (&one, 1), (&one, 2), (&two, 1)] {
        let running = start(Config { key_id, ..config(folder.path()) }).await.unwrap();
        keys.push(running.ready.public_key);
        running.stop().await;
    }
    assert_eq!(keys[0], keys[1], "the same root and number");
    assert_ne!(keys[0], keys[2], "another number");
    assert_ne!(keys[0], keys[3], "another root");
}

#[tokio::test]
async fn socket_and_root_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(config(folder.path())).await.unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keeper.sock"), 0o600);
    assert_eq!(mode("data"), 0o700);
    assert_eq!(mode("data/sealing-root"), 0o600);
    running.stop().await;
}

#[tokio::test]
async fn an_exposed_or_damaged_root_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    start(config(folder.path())).await.unwrap().stop().await;
    let path = folder.path().join("data/sealing-root");
    let genuine = fs::read(&path).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let refused = start(config(folder.path())).await.err().unwrap();
        assert!(matches!(refused, Error::Root(RootError::Exposed(_))), "{mode:o}: {refused}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.path().join("data"), Permissions::from_mode(0o770)).unwrap();
    let refused = start(config(folder.path())).await.err().unwrap();
    assert!(matches!(refused, Error::Root(RootError::Exposed(_))), "a folder others write to: {refused}");
    fs::set_permissions(folder.path().join("data"), Permissions::from_mode(0o700)).unwrap();
    let later = String::from_utf8(genuine.clone()).unwrap().replace("-v1 ", "-v2 ").into_bytes();
    for damaged in [&genuine[..20], &later, b"", &[&genuine[..], b"\n"].concat()] {
        fs::write(&path, damaged).unwrap();
        let refused = start(config(folder.path())).await.err().unwrap();
        assert!(matches!(refused, Error::Root(RootError::Unknown(_))), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_frame_of_impossible_length_ends_the_connection_before_its_bytes_come() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(Config { timeout: Duration::from_secs(60), ..config(folder.path()) }).await.unwrap();
    for length in [0, frame::MAX_FRAME as u32 + 1, u32::MAX] {
        let mut stream = connect(folder.path()).await;
        stream.write_u32(length).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(10), is_closed(stream)).await;
        assert!(closed.expect("long before the timeout of the connection"), "{length}");
    }
    running.stop().await;
}

#[tokio::test]
async fn slow_peers_are_cut_off_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(Config { max_connections: 2, ..config(folder.path()) }).await.unwrap();
    let (silent, mut slow) = (connect(folder.path()).await, connect(folder.path()).await);
    slow.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    // Both places are taken: this one is served when they have timed out.
    let mut third = connect(folder.path()).await;
    let (request, patience) = (keeper::encode_request(&Request::Info), Duration::from_secs(10));
    let answer = tokio::time::timeout(patience, ask(&mut third, &request)).await;
    assert!(matches!(answer.expect("the slow peers' places are free again"), Answer::Info(_)));
    assert!(is_closed(silent).await && is_closed(slow).await);
    running.stop().await;
}

#[tokio::test]
async fn a_living_keeper_is_not_pushed_aside_and_a_dead_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(config(folder.path())).await.unwrap();
    assert!(matches!(start(config(folder.path())).await, Err(Error::Listen(_))));
    running.stop().await;
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("keeper.sock")).unwrap());
    start(config(folder.path())).await.unwrap().stop().await;
    fs::write(folder.path().join("keeper.sock"), b"a file of somebody").unwrap();
    assert!(matches!(start(config(folder.path())).await, Err(Error::Listen(_))));
    assert_eq!(fs::read(folder.path().join("keeper.sock")).unwrap(), b"a file of somebody");
}

#[tokio::test]
async fn tcp_is_for_the_loopback_interface_only() {
    let folder = tempfile::tempdir().unwrap();
    let on = |address: &str| Config { listen: Listen::Loopback(address.parse().unwrap()), ..config(folder.path()) };
    assert!(matches!(start(on("0.0.0.0:0")).await, Err(Error::Listen(_))));
    let running = start(on("127.0.0.1:0")).await.unwrap();
    let address = running.ready.address.unwrap();
    assert!(running.ready.to_json().contains(&format!(r#""address":"{address}""#)));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(matches!(ask(&mut stream, &keeper::encode_request(&Request::Info)).await, Answer::Info(_)));
    running.stop().await;
}

/// Not a test of its own: the process that the next two start.
#[tokio::test]
#[ignore = "started by the tests of the process"]
async fn child() {
    let folder = std::env::var_os("HALFKEY_TEST_KEEPER_FOLDER").unwrap();
    run(Config { stop_on_stdin_close: true, ..config(folder.as_ref()) }).await.unwrap();
}

/// A keeper as its own process, its ready line, and its output to be kept open.
fn spawn(folder: &Path) -> (Child, String, impl Sized) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("HALFKEY_TEST_KEEPER_FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test harness's own words may stand before it on the line.
    let ready =
        lines.by_ref().map(Result::unwrap).find_map(|line| line.find('{').map(|at| line[at..].to_owned())).unwrap();
    (child, ready, lines)
}

#[test]
fn the_process_announces_itself_and_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, ready, _output) = spawn(folder.path());
    assert!(ready.starts_with(r#"{"ready":true,"public_key":""#), "{ready}");
    assert!(ready.ends_with(r#"","key_id":1,"evidence":"insecure-dev","sealings":1}"#), "{ready}");
    assert!(folder.path().join("keeper.sock").exists());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!folder.path().join("keeper.sock").exists());
}

#[test]
fn the_process_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _, _output) = spawn(folder.path());
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(sent.success());
    assert!(child.wait().unwrap().success());
    assert!(!folder.path().join("keeper.sock").exists());
}
