//! A network that fails when it is told to: a proxy in front of any server that speaks HTTP/1.1 without TLS. Each request
//! has a number, from 0 in the order in which they arrive, and a harm can be laid on a number. Nothing here waits for
//! time to pass.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// No head of a request or answer is longer.
const MAX_HEAD: usize = 64 * 1024;

/// What the network does to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The connection is reset; the server never saw the request.
    ResetBefore,
    /// The server has carried the request out, and the connection is reset instead of an answer.
    ResetAfter,
    /// The server has carried the request out, and nothing comes back until [`FaultProxy::release`], or until the client
    /// gives up.
    Stall,
    /// The same in the middle of the answer, after so many bytes of it, its head counted; never the whole of it.
    StallAt(usize),
    /// The answer ends after so many bytes, its head counted.
    Truncate(usize),
    /// The request reaches the server twice, one after the other; the client has the answer to the second.
    Duplicate,
}

/// A running proxy; it stops on drop.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    released: watch::Sender<u64>,
    /// How many calls have begun to stall.
    stalled: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    harms: HashMap<usize, Harm>,
    calls: Vec<String>,
}

impl FaultProxy {
    /// Listens on a free port of loopback, in front of a server.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (released, stalled) = (watch::Sender::new(0), watch::Sender::new(0));
        let shared = Arc::new(Shared { server, state: Mutex::default(), released, stalled });
        let of_task = Arc::clone(&shared);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&of_task);
                tokio::spawn(async move { shared.pass(client).await });
            }
        });
        Ok(Self { shared, address, serving })
    }

    /// The address to be used instead of the server's: `http://127.0.0.1:…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lays a harm on the call with this number, counted from 0 since the start.
    pub fn harm(&self, call: usize, harm: Harm) {
        self.shared.lock().harms.insert(call, harm);
    }

    /// Lays a harm on the next call; its number.
    pub fn harm_next(&self, harm: Harm) -> usize {
        let mut state = self.shared.lock();
        let next = state.calls.len();
        state.harms.insert(next, harm);
        next
    }

    /// Takes back every harm that has not happened yet.
    pub fn heal(&self) {
        self.shared.lock().harms.clear();
    }

    /// Lets every call that stalls now go on.
    pub fn release(&self) {
        self.shared.released.send_modify(|times| *times += 1);
    }

    /// Ends once so many calls have begun to stall since the start.
    pub async fn until_stalled(&self, calls: u64) {
        let mut stalled = self.shared.stalled.subscribe();
        let _never_closed = stalled.wait_for(|so_far| *so_far >= calls).await;
    }

    /// What was asked so far, by number: `GET /path?query`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.shared.lock().calls.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes one request on and its answer back. Each request has a connection of its own: the server is asked to close
    /// it, and says so to the client.
    async fn pass(&self, mut client: TcpStream) {
        let Ok(request) = request(&mut client).await else { return };
        let mut released = self.released.subscribe();
        let harm = {
            let mut state = self.lock();
            let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned();
            state.calls.push(line);
            let number = state.calls.len() - 1;
            state.harms.remove(&number)
        };
        if harm == Some(Harm::ResetBefore) {
            let _reset = client.set_zero_linger();
            return;
        }
        if harm == Some(Harm::Duplicate) {
            let _first = self.ask(&request).await;
        }
        // A server that cannot be reached looks to the client as it would without the proxy.
        let Ok(mut answer) = self.ask(&request).await else {
            let _reset = client.set_zero_linger();
            return;
        };
        let length = match harm {
            Some(Harm::ResetAfter) => {
                let _reset = client.set_zero_linger();
                return;
            }
            Some(harm @ (Harm::Stall | Harm::StallAt(_))) => {
                let most = answer.len().saturating_sub(1);
                let sent = if let Harm::StallAt(bytes) = harm { bytes.min(most) } else { 0 };
                let _gone = client.write_all(&answer[..sent]).await;
                answer.drain(..sent);
                self.stalled.send_modify(|calls| *calls += 1);
                let mut nothing = [0];
                tokio::select! {
                    _released = released.changed() => {}
                    _gave_up = client.read(&mut nothing) => return,
                }
                answer.len()
            }
            Some(Harm::Truncate(bytes)) => bytes.min(answer.len()),
            _ => answer.len(),
        };
        let _gone = client.write_all(&answer[..length]).await;
        let _gone = client.shutdown().await;
    }

    async fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.server).await?;
        server.write_all(request).await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

/// One whole request, with `Connection: close` in its head.
async fn request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > MAX_HEAD || client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |wanted: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    if header("transfer-encoding").is_some() {
        while !bytes[head..].ends_with(b"0\r\n\r\n") {
            more(client, &mut bytes).await?;
        }
    } else {
        let length: usize =
            header("content-length").map_or(Ok(0), |length| length.parse()).map_err(io::Error::other)?;
        while bytes.len() < head + length {
            more(client, &mut bytes).await?;
        }
    }
    let lines = text.split_inclusive("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("connection") && *line != "\r\n"
    });
    let mut request: Vec<u8> = lines.collect::<String>().into_bytes();
    request.extend_from_slice(b"Connection: close\r\n\r\n");
    request.extend_from_slice(&bytes[head..]);
    Ok(request)
}

async fn more(client: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match client.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Router, extract::State, routing::post};

    use super::*;

    /// A server that answers with the number of the request and its body.
    async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let answer = |State(count): State<Arc<AtomicUsize>>, body: String| async move {
            format!("{} {body}", count.fetch_add(1, Ordering::SeqCst) + 1)
        };
        let router = Router::new().route("/x", post(answer)).with_state(Arc::clone(&count));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, count)
    }

    struct World {
        proxy: FaultProxy,
        count: Arc<AtomicUsize>,
        http: reqwest::Client,
    }

    impl World {
        async fn new() -> Self {
            let (server, count) = counting().await;
            let proxy = FaultProxy::start(server).await.unwrap();
            Self { proxy, count, http: reqwest::Client::builder().no_proxy().build().unwrap() }
        }

        async fn send(&self) -> reqwest::Result<String> {
            let request = self.http.post(format!("{}/x?a=b", self.proxy.url())).body("body");
            Ok(String::from_utf8(request.send().await?.bytes().await?.to_vec()).unwrap())
        }

        fn seen(&self) -> usize {
            self.count.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn without_harm_it_passes_everything_on() {
        let world = World::new().await;
        assert_eq!(world.send().await.unwrap(), "1 body");
        assert_eq!(world.send().await.unwrap(), "2 body");
        assert_eq!(world.proxy.calls(), ["POST /x?a=b", "POST /x?a=b"]);
    }

    #[tokio::test]
    async fn resets_come_before_or_after_the_work() {
        let world = World::new().await;
        world.proxy.harm(1, Harm::ResetBefore);
        world.proxy.harm(2, Harm::ResetAfter);
        assert_eq!(world.send().await.unwrap(), "1 body");
        assert!(world.send().await.is_err());
        assert_eq!(world.seen(), 1);
        assert!(world.send().await.is_err());
        assert_eq!(world.seen(), 2);
        assert_eq!(world.send().await.unwrap(), "3 body");
    }

    #[tokio::test]
    async fn a_stalled_call_goes_on_when_it_is_released_and_ends_when_the_client_gives_up() {
        let world = World::new().await;
        assert_eq!(world.proxy.harm_next(Harm::Stall), 0);
        let (answer, ()) = tokio::join!(world.send(), async {
            while world.seen() == 0 {
                tokio::task::yield_now().await;
            }
            world.proxy.release();
        });
        assert_eq!(answer.unwrap(), "1 body");
        world.proxy.harm_next(Harm::Stall);
        let gave_up = async {
            while world.seen() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _answer = world.send() => panic!("nothing was released"),
            () = gave_up => {}
        }
        assert_eq!(world.send().await.unwrap(), "3 body");
    }

    #[tokio::test]
    async fn a_truncated_answer_is_no_answer_at_any_length() {
        let world = World::new().await;
        let whole = world.proxy.shared.ask(b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        for length in [0, 1, 20, whole.len() - 1] {
            world.proxy.harm_next(Harm::Truncate(length));
            assert!(world.send().await.is_err(), "{length}");
        }
        world.proxy.harm_next(Harm::Truncate(usize::MAX));
        assert_eq!(world.send().await.unwrap(), "6 body");
    }

    #[tokio::test]
    async fn a_duplicate_reaches_the_server_twice() {
        let world = World::new().await;
        world.proxy.harm(0, Harm::Duplicate);
        assert_eq!(world.send().await.unwrap(), "2 body");
        world.proxy.harm_next(Harm::ResetBefore);
        world.proxy.heal();
        assert_eq!(world.send().await.unwrap(), "3 body");
    }
}
