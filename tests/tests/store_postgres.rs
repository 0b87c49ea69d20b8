//! The harness itself: a cluster starts, answers, copies a database, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_tests::postgres::Postgres;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn a_cluster_starts_copies_and_stops() {
    let cluster = Postgres::start().unwrap();
    let url = cluster.create_database("one").unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE t (n BIGINT)").execute(&mut connection).await.unwrap();
    sqlx::query("INSERT INTO t VALUES (7)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let copy = cluster.copy_database("one", "two").unwrap();
    let mut connection = PgConnection::connect(&copy).await.unwrap();
    let n: i64 = sqlx::query_scalar("SELECT n FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(n, 7);
    drop(connection);

    let folder = url.split("host=").nth(1).unwrap().to_owned();
    assert!(std::path::Path::new(&folder).exists());
    drop(cluster);
    assert!(!std::path::Path::new(&folder).exists(), "the folder is gone");
    assert!(PgConnection::connect(&url).await.is_err(), "and so is the server");
}
