//! A running server sends events by itself, also those that it had not sent when it was killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use halfkey_api::route;
use halfkey_tests::{
    deployment::{Backing, Deployment},
    phone::Phone,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_had_to_tell_is_told_by_the_next() {
    let (told, mut heard) = mpsc::unbounded_channel::<Value>();
    let well = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&well);
    let answer = async move |body: Bytes| {
        told.send(serde_json::from_slice(&body).unwrap()).unwrap();
        if answering.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().route("/", post(answer))).into_future());

    let mut deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let added = reqwest::Client::new()
        .post(format!("{}{}", deployment.url(), route::WEBHOOKS))
        .bearer_auth(deployment.custodian_key())
        .header("content-type", "application/json")
        .body(json!({ "url": url }).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(added.status().as_u16(), 201);
    let client = deployment.new_client().await.unwrap();
    let phone = Phone::new(&deployment, &client).unwrap();
    phone.app.create_wallet().await.unwrap();
    let first = heard.recv().await.unwrap();
    assert_eq!((&first["type"], &first["data"]["payload"].is_object()), (&json!("wallet.created"), &true));

    deployment.kill().unwrap();
    well.store(true, Ordering::SeqCst);
    while heard.try_recv().is_ok() {}
    deployment.restart().unwrap();
    assert_eq!(heard.recv().await.unwrap(), first, "the same event again");
    deployment.stop().unwrap();
}
