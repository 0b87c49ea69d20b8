//! Somebody with the user's session and a program of their own: requests that no SDK makes.

use axum::{
    body::{Body, to_bytes},
    http,
};
use halfkey_api::{
    auth,
    bytes::{Base64, Hex},
    context::{ejection, possession},
    error::ErrorBody,
    message::{
        BeginRecovery, CipherText, ClientDetail, CurveProof, EnrolDevice, OldDevices, ProvePossession, Recovery,
        RecoveryPurpose,
    },
    route::{self, path},
};
use halfkey_client::Clock;
use halfkey_envelope::{
    client_share::{Contents, Header},
    entropy::{OsEntropy, random},
    hpke::SecretKey,
    wallet::Method,
};
use halfkey_protocol::{
    ClientBackupShare, DeviceKey, Half, Signs,
    proof::{self, Purpose, Statement},
};
use tower::ServiceExt;

use crate::world::World;

pub struct Thief<'a> {
    world: &'a World,
    token: String,
    key: DeviceKey,
    pub client: ClientDetail,
    pub recovery: Option<Recovery>,
}

impl<'a> Thief<'a> {
    /// Opens a recovery by passkey with a device key of its own.
    pub async fn recovers(world: &'a World, token: &str) -> Self {
        Self::asks(world, token, Method::Passkey, RecoveryPurpose::Recover).await
    }

    /// A device key, and nothing asked for.
    pub async fn new(world: &'a World, token: &str) -> Self {
        let (key, client) = (DeviceKey::generate(&mut OsEntropy), world.client_of(token).await);
        Self { world, token: token.to_owned(), key, client, recovery: None }
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.key.public().to_bytes()
    }

    /// Opens a recovery or an eject with a device key of its own.
    pub async fn asks(world: &'a World, token: &str, method: Method, purpose: RecoveryPurpose) -> Self {
        let key = DeviceKey::generate(&mut OsEntropy);
        let client = world.client_of(token).await;
        let mut thief = Self { world, token: token.to_owned(), key, client, recovery: None };
        let body = BeginRecovery {
            purpose,
            method,
            new_device: EnrolDevice {
                public_key: Hex(thief.key.public().to_bytes()),
                platform: "linux".to_owned(),
                name: "thief".to_owned(),
            },
            old_devices: OldDevices::Keep,
        };
        let begun = thief.send("POST", route::RECOVERIES, serde_json::to_vec(&body).unwrap()).await;
        thief.recovery = Some(serde_json::from_slice(&begun.unwrap()).unwrap());
        thief
    }

    fn open(&self) -> &Recovery {
        self.recovery.as_ref().unwrap()
    }

    /// What this recovery is served.
    pub async fn cipher_text(&self) -> CipherText {
        let path = path(route::RECOVERY_CIPHER_TEXT, &[&self.open().id.to_string()]);
        serde_json::from_slice(&self.send("GET", &path, Vec::new()).await.unwrap()).unwrap()
    }

    /// Proves possession of these halves, as far as they can prove it.
    pub async fn prove_possession(&self, header: &Header, contents: &Contents) -> Result<(), String> {
        self.prove(header, contents, Purpose::Possession, route::RECOVERY_POSSESSION).await
    }

    /// The same for the purpose and the path of one's choice.
    pub async fn prove(
        &self,
        header: &Header,
        contents: &Contents,
        purpose: Purpose,
        route: &str,
    ) -> Result<(), String> {
        let told = self.cipher_text().await;
        self.prove_with(header, contents, purpose, route, told).await
    }

    /// The same with an envelope and a challenge that were served before.
    pub async fn prove_with(
        &self,
        header: &Header,
        contents: &Contents,
        purpose: Purpose,
        route: &str,
        told: CipherText,
    ) -> Result<(), String> {
        let recovery = self.open();
        let one_time_key = *SecretKey::generate(&mut OsEntropy).public_key().as_bytes();
        let deployment = self.world.deployment.id();
        let nonce = recovery.nonce.unwrap().0;
        let device = self.key.public().to_bytes();
        let context = match purpose {
            Purpose::Eject => ejection(deployment, self.client.id, recovery.id, &nonce, &device, &one_time_key),
            _ => possession(deployment, self.client.id, recovery.id, &nonce, &device, &one_time_key),
        };
        let prove = |pair: &halfkey_api::message::BackupPairPoints| {
            assert!(header.curve(pair.curve).is_some());
            let half = ClientBackupShare::from_bytes(pair.curve, contents.share(pair.curve).unwrap()).unwrap();
            let nonce = &told.challenge.0;
            let statement = Statement { purpose, context: &context, pair: pair.pair_id, nonce };
            let proof = proof::prove(&statement, &half, &mut OsEntropy).unwrap();
            CurveProof { curve: pair.curve, proof: Base64(proof) }
        };
        let proofs = told.pairs.iter().map(prove).collect();
        let body = ProvePossession { challenge: told.challenge, one_time_key: Hex(one_time_key), proofs };
        let path = path(route, &[&recovery.id.to_string()]);
        self.send("POST", &path, serde_json::to_vec(&body).unwrap()).await.map(drop)
    }

    /// The answer's body, or the id of the refusal.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let (now_ms, nonce) = (Clock::now_ms(&*self.world.clock), *random::<32>(&mut OsEntropy));
        let deployment = self.world.deployment.id();
        let digest = auth::request_digest(deployment.as_bytes(), method, path, &body, now_ms, &nonce);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .header(auth::DEVICE_KEY_HEADER, hex::encode(self.key.public().to_bytes()))
            .header(auth::TIMESTAMP_HEADER, now_ms.to_string())
            .header(auth::NONCE_HEADER, hex::encode(nonce))
            .header(auth::SIGNATURE_HEADER, hex::encode(self.key.sign_digest(&digest)))
            .body(Body::from(body))
            .unwrap();
        let response = self.world.router.clone().oneshot(request).await.unwrap();
        let good = response.status().is_success();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec();
        if good {
            return Ok(bytes);
        }
        let refused: ErrorBody = serde_json::from_slice(&bytes).unwrap();
        Err(refused.error.id.as_str().to_owned())
    }
}
