//! T22 on a real server: whoever begins ceremonies and never ends them fills a few seats of his own, and nobody else's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use halfkey_client::Error;
use halfkey_server::kept::Caps;
use halfkey_tests::{
    deployment::{Backing, Deployment},
    phone::Phone,
    spend::signs,
    wire::{Cut, Side},
};
use sqlx::{Row, SqlitePool};

/// The seat of the one session that each device has opened ahead, beyond the others.
const AHEAD: &str = "4294967295";

/// What the server keeps between two steps, by device key; without the sessions opened ahead.
async fn kept(deployment: &Deployment) -> BTreeMap<Vec<u8>, i64> {
    seats(deployment, &format!("seat <> {AHEAD}")).await
}

async fn seats(deployment: &Deployment, which: &str) -> BTreeMap<Vec<u8>, i64> {
    let url = format!("sqlite:{}?mode=ro", deployment.data().join("kept.db").display());
    let pool = SqlitePool::connect(&url).await.unwrap();
    let rows = format!("SELECT device_key, COUNT(*) AS sessions FROM kept WHERE {which} GROUP BY device_key");
    let rows = sqlx::query(sqlx::AssertSqlSafe(rows));
    let rows = rows.fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows.into_iter().map(|row| (row.get("device_key"), row.get("sessions"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t22_a_flood_of_begun_ceremonies_fills_only_its_own_seats() {
    const FLOOD: usize = 40;
    let mut deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let (attacker, other) = (deployment.new_client().await.unwrap(), deployment.new_client().await.unwrap());
    let (attacker, other) = (Phone::new(&deployment, &attacker).unwrap(), Phone::new(&deployment, &other).unwrap());
    let (flooding, wallet) = (attacker.app.create_wallet().await.unwrap(), other.app.create_wallet().await.unwrap());
    assert!(kept(&deployment).await.is_empty(), "a finished ceremony leaves nothing");
    let ahead = seats(&deployment, &format!("seat = {AHEAD}")).await;
    assert_eq!(ahead.into_values().collect::<Vec<_>>(), [1, 1], "but one session ahead for each device");

    // Each signature is left after its first answer: the server keeps its state for a second step that never comes.
    let (mut begun, mut refused) = (0, 0);
    for _ in 0..FLOOD {
        attacker.wire.cut(Cut { exchange: 1, side: Side::Request, strike: Box::new(|| ()), device_dies: true });
        tokio::select! {
            ended = signs(&attacker.app, &flooding) => {
                match ended.unwrap_err().downcast_ref() {
                    Some(Error::Retry { after: Some(after) }) => assert!((1..=60_000).contains(after), "{after}"),
                    other => panic!("{other:?}"),
                }
                refused += 1;
            }
            () = attacker.wire.was_cut() => begun += 1,
        }
    }
    let places = usize::try_from(Caps::default().per_device).unwrap();
    assert_eq!((begun, refused), (places, FLOOD - places));
    let rows = kept(&deployment).await;
    assert_eq!(rows.values().copied().collect::<Vec<_>>(), [i64::try_from(places).unwrap()]);

    // Nobody else notices.
    signs(&other.app, &wallet).await.unwrap();
    assert_eq!(kept(&deployment).await, rows);

    // What is kept does not outlive the process, and the attacker's wallet has lost nothing either.
    deployment.kill().unwrap();
    deployment.restart().unwrap();
    assert!(seats(&deployment, "TRUE").await.is_empty());
    signs(&attacker.restarted(&deployment).unwrap().app, &flooding).await.unwrap();
}
