//! The network between a device and the server, as the tests see it: every message is recorded, and a test may cut it
//! at any message.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use halfkey_cli::transport::{HttpTransport, install_tls_provider};
use halfkey_client::host::{Request, Response, Transport, TransportError};
use tokio::sync::Notify;

/// One request and its answer.
#[derive(Clone)]
pub struct Exchange {
    /// `POST /api/v3/…`, with the ids of the path left out.
    pub name: String,
    /// As it was sent.
    pub request: Request,
    /// `None` when no answer reached the device.
    pub response: Option<Response>,
}

/// The side of the server's work on which a message is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request never reaches the server.
    Request,
    /// The server has done its work, and the answer never reaches the device.
    Answer,
}

/// Cuts the wire at one message.
pub struct Cut {
    /// Which exchange, counted from 0.
    pub exchange: usize,
    /// Its request or its answer.
    pub side: Side,
    /// What happens at that moment, such as a `kill -9`.
    pub strike: Box<dyn FnOnce() + Send>,
    /// Whether the device dies with it: the call then never returns, and [`Wire::was_cut`] tells.
    pub device_dies: bool,
}

/// A [`Transport`] over real HTTP.
pub struct Wire {
    http: HttpTransport,
    server: Mutex<SocketAddr>,
    exchanges: Mutex<Vec<Exchange>>,
    cut: Mutex<Option<Cut>>,
    struck: Notify,
}

impl Wire {
    /// A wire to a server, whatever address the descriptor names: a copied deployment listens elsewhere.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn to(server: SocketAddr) -> Result<Arc<Self>, reqwest::Error> {
        install_tls_provider();
        Ok(Arc::new(Self {
            http: HttpTransport::new()?,
            server: Mutex::new(server),
            exchanges: Mutex::default(),
            cut: Mutex::default(),
            struck: Notify::new(),
        }))
    }

    /// What went over it so far.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        held(&self.exchanges).clone()
    }

    /// Cuts it at a message, counted from now on.
    pub fn cut(&self, cut: Cut) {
        let already = held(&self.exchanges).len();
        *held(&self.cut) = Some(Cut { exchange: already + cut.exchange, ..cut });
    }

    /// Returns when a cut has been made in which the device dies.
    pub async fn was_cut(&self) {
        self.struck.notified().await;
    }

    /// The cut that this message is due for.
    fn due(&self, exchange: usize, side: Side) -> Option<Cut> {
        held(&self.cut).take_if(|cut| cut.exchange == exchange && cut.side == side)
    }

    async fn strike(&self, cut: Cut) -> Result<Response, TransportError> {
        (cut.strike)();
        if cut.device_dies {
            self.struck.notify_one();
            std::future::pending::<()>().await;
        }
        Err(TransportError::Unreachable)
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        let server = *held(&self.server);
        let path = request.url.splitn(4, '/').nth(3).unwrap_or_default();
        request.url = format!("http://{server}/{path}");
        let exchange = Exchange { name: name(&request), request: request.clone(), response: None };
        let number = {
            let mut exchanges = held(&self.exchanges);
            exchanges.push(exchange);
            exchanges.len() - 1
        };
        if let Some(cut) = self.due(number, Side::Request) {
            return self.strike(cut).await;
        }
        let answer = self.http.send(request).await;
        if let Some(cut) = self.due(number, Side::Answer) {
            return self.strike(cut).await;
        }
        if let (Ok(answer), Some(exchange)) = (&answer, held(&self.exchanges).get_mut(number)) {
            exchange.response = Some(answer.clone());
        }
        answer
    }
}

/// Method and path; ids differ from run to run and are left out.
fn name(request: &Request) -> String {
    let path = request.url.splitn(4, '/').nth(3).unwrap_or_default();
    let segments = path.split('/').map(|segment| if segment.len() == 36 { "{id}" } else { segment });
    format!("{} /{}", request.method, segments.collect::<Vec<_>>().join("/"))
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
