//! State between two rounds.

use super::*;
use halfkey_envelope::id::SessionId;
use halfkey_server::{
    kept::{AHEAD_LIFE_MS, Caps, Claim, KEPT_LIFE_MS, Kept, KeptKey, KeptSession, Resume},
    store::{Error, What},
};
use sqlx::{ConnectOptions, Connection};
use zeroize::Zeroizing;

async fn kept(url: &str, caps: Caps) -> Kept {
    Kept::connect(url, KeptKey::from_bytes(Zeroizing::new([7; 32])), caps).await.unwrap()
}

fn session(n: u8) -> KeptSession {
    KeptSession {
        session: SessionId::from_bytes([n; 16]),
        client: ClientId::from_bytes([1; 16]),
        device_key: [2; 32],
        operation: "sign".into(),
        step: 1,
        subject: [3; 16],
        slot: None,
        generation: 4,
        transcript: [5; 32],
    }
}

fn claim(session: &KeptSession) -> Claim<'_> {
    Claim {
        session: session.session,
        client: session.client,
        device_key: &session.device_key,
        operation: &session.operation,
        step: session.step,
        subject: &session.subject,
    }
}

fn unknown<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(&result, Err(Error::Unknown(What::Session))), "{result:?}");
}

pub async fn state_is_taken_once_by_its_device_at_its_step(mut ground: Ground) {
    let kept = kept(&ground.beside("kept"), Caps::default()).await;
    let row = session(1);
    let resume = kept.put(&row, b"state", ground.entropy(), NOW).await.unwrap();
    let own = claim(&row);
    let wrong = [
        Claim { session: SessionId::from_bytes([9; 16]), ..own.clone() },
        Claim { client: ClientId::from_bytes([9; 16]), ..own.clone() },
        Claim { device_key: &[9; 32], ..own.clone() },
        Claim { operation: "backup", ..own.clone() },
        Claim { step: 2, ..own.clone() },
        Claim { subject: &[9; 16], ..own.clone() },
    ];
    for wrong in &wrong {
        unknown(kept.take(wrong, &resume, NOW).await);
    }
    let (found, state) = kept.take(&own, &resume, NOW + KEPT_LIFE_MS - 1).await.unwrap();
    assert_eq!((found, state.as_slice()), (row.clone(), &b"state"[..]), "and none of those claims used it up");
    unknown(kept.take(&own, &resume, NOW).await);

    let resume = kept.put(&row, b"state", ground.entropy(), NOW).await.unwrap();
    let late = kept.take(&own, &resume, NOW + KEPT_LIFE_MS).await;
    assert!(matches!(late, Err(Error::Expired(What::Session))));
    unknown(kept.take(&own, &resume, NOW).await);
    kept.put(&row, b"state", ground.entropy(), NOW).await.unwrap();
    unknown(kept.take(&own, &Resume::from_bytes([0; 32]), NOW).await);
    assert_eq!(kept.sweep(NOW).await.unwrap(), 0, "a guess at the device's bytes costs the session");
}

pub async fn t15_racing_takers_of_one_state_get_it_once(mut ground: Ground) {
    let kept = Arc::new(kept(&ground.beside("kept"), Caps::default()).await);
    for n in 0..5 {
        let row = session(n);
        let resume = kept.put(&row, b"state", ground.entropy(), NOW).await.unwrap();
        let takers = (0..8).map(|_| {
            let (kept, row, resume) = (Arc::clone(&kept), row.clone(), Resume::from_bytes(*resume.expose()));
            tokio::spawn(async move { kept.take(&claim(&row), &resume, NOW).await.is_ok() })
        });
        let mut won = 0;
        for taker in takers.collect::<Vec<_>>() {
            won += u32::from(taker.await.unwrap());
        }
        assert_eq!(won, 1);
    }
}

pub async fn the_same_device_takes_its_session_over(mut ground: Ground) {
    let kept = kept(&ground.beside("kept"), Caps::default()).await;
    let on_slot = |n, device: u8, operation: &str| KeptSession {
        slot: Some("backup/1".into()),
        operation: operation.into(),
        device_key: [device; 32],
        ..session(n)
    };
    let (lost, retry) = (on_slot(1, 2, "backup"), on_slot(2, 2, "backup"));
    let first = kept.put(&lost, b"first", ground.entropy(), NOW).await.unwrap();
    let second = kept.put(&retry, b"second", ground.entropy(), NOW + 1).await.unwrap();
    unknown(kept.take(&claim(&lost), &first, NOW + 2).await);
    let other = kept.put(&on_slot(3, 8, "backup"), b"other", ground.entropy(), NOW + 2).await;
    assert!(matches!(other, Err(Error::OperationInProgress { until_ms }) if until_ms == NOW + 1 + KEPT_LIFE_MS));
    kept.put(&on_slot(4, 8, "refresh"), b"another operation", ground.entropy(), NOW + 2).await.unwrap();
    assert_eq!(kept.take(&claim(&retry), &second, NOW + 3).await.unwrap().1.as_slice(), b"second");
    kept.put(&on_slot(5, 8, "backup"), b"now free", ground.entropy(), NOW + 4).await.unwrap();
    let late = NOW + 4 + KEPT_LIFE_MS;
    kept.put(&on_slot(6, 2, "backup"), b"after its end", ground.entropy(), late).await.unwrap();
}

pub async fn t22_session_flooding_is_bounded(ground: Ground) {
    let kept = Arc::new(kept(&ground.beside("kept"), Caps { per_device: 4, total: 6 }).await);
    let floods = (0..24u8).map(|n| {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut entropy = DangerSeededEntropy::new(u64::from(n));
            kept.put(&session(n), b"state", &mut entropy, NOW).await.map(drop)
        })
    });
    let mut kept_ones = 0;
    for flood in floods.collect::<Vec<_>>() {
        match flood.await.unwrap() {
            Ok(()) => kept_ones += 1,
            Err(Error::Busy { retry_after_ms }) => assert!((1..=KEPT_LIFE_MS).contains(&retry_after_ms)),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((1..=4).contains(&kept_ones), "{kept_ones}");
    assert_eq!(kept.sweep(NOW).await.unwrap(), kept_ones);
    let mut entropy = DangerSeededEntropy::new(99);
    let mut others = 0;
    for n in 0..9u8 {
        let row = KeptSession { device_key: [100 + n; 32], ..session(100 + n) };
        others += u64::from(kept.put(&row, b"state", &mut entropy, NOW).await.is_ok());
    }
    assert_eq!(kept_ones + others, 6, "and all devices together");
    assert_eq!(kept.sweep(NOW + KEPT_LIFE_MS).await.unwrap(), 0, "for a minute");
    let row = session(200);
    kept.put(&row, b"state", &mut entropy, NOW + KEPT_LIFE_MS).await.unwrap();
    kept.drop_session(row.session, &row.device_key).await.unwrap();
    assert_eq!(kept.sweep(NOW + KEPT_LIFE_MS).await.unwrap(), 0);
}

/// Opened ahead: one of each device, in nobody's way, for a week, taken once.
pub async fn t15_a_session_opened_ahead_is_replaced_and_taken_once(mut ground: Ground) {
    let kept = Arc::new(kept(&ground.beside("kept"), Caps { per_device: 1, total: 2 }).await);
    let going_on = session(1);
    kept.put(&going_on, b"state", ground.entropy(), NOW).await.unwrap();
    let (first, second) = (session(2), session(3));
    let lost = kept.put_ahead(&first, b"first", ground.entropy(), NOW).await.unwrap();
    let resume = kept.put_ahead(&second, b"second", ground.entropy(), NOW).await.unwrap();
    unknown(kept.take(&claim(&first), &lost, NOW).await);
    let another = KeptSession { device_key: [8; 32], ..session(4) };
    let others = kept.put_ahead(&another, b"another", ground.entropy(), NOW).await.unwrap();
    // Of the two sessions that may go on, one does: those opened ahead take no room.
    let third = KeptSession { device_key: [9; 32], ..session(5) };
    kept.put(&third, b"state", ground.entropy(), NOW).await.unwrap();
    let fourth = KeptSession { device_key: [10; 32], ..session(6) };
    let full = kept.put(&fourth, b"state", ground.entropy(), NOW).await;
    assert!(matches!(full, Err(Error::Busy { .. })), "{full:?}");
    let busy = kept.put(&session(7), b"state", ground.entropy(), NOW).await;
    assert!(matches!(busy, Err(Error::Busy { retry_after_ms }) if retry_after_ms == KEPT_LIFE_MS), "{busy:?}");

    let wrong = KeptSession { subject: [9; 16], ..second.clone() };
    unknown(kept.take(&claim(&wrong), &resume, NOW).await);
    let last = NOW + AHEAD_LIFE_MS - 1;
    assert_eq!(kept.take(&claim(&second), &resume, last).await.unwrap().1.as_slice(), b"second");
    unknown(kept.take(&claim(&second), &resume, last).await);
    let late = kept.take(&claim(&another), &others, last + 1).await;
    assert!(matches!(late, Err(Error::Expired(What::Session))), "{late:?}");

    let racing = (10..18u8).map(|n| {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut entropy = DangerSeededEntropy::new(u64::from(n));
            let resume = kept.put_ahead(&session(n), b"state", &mut entropy, NOW).await;
            (n, resume)
        })
    });
    let (mut opened, mut left) = (Vec::new(), 0);
    for racer in racing.collect::<Vec<_>>() {
        let (n, resume) = racer.await.unwrap();
        opened.extend(resume.ok().map(|resume| (n, resume)));
    }
    for (n, resume) in &opened {
        left += u32::from(kept.take(&claim(&session(*n)), resume, NOW).await.is_ok());
    }
    assert_eq!(left, 1, "one of a device, whichever came last");
}

pub async fn an_edited_or_swapped_row_does_not_open(mut ground: Ground) {
    let url = ground.beside("kept");
    let kept = kept(&url, Caps::default()).await;
    let edits = [
        "UPDATE kept SET generation = 5",
        "UPDATE kept SET transcript = subject",
        "UPDATE kept SET deadline_ms = deadline_ms + 1",
        "UPDATE kept SET slot = ''",
    ];
    for edit in edits {
        let row = session(1);
        let resume = kept.put(&row, b"state", ground.entropy(), NOW).await.unwrap();
        // Rows of fixed length stay of fixed length.
        let edit = edit.replace("transcript = subject", "transcript = device_key");
        run(&url, &edit).await;
        unknown(kept.take(&claim(&row), &resume, NOW).await);
    }
}

pub async fn t15_a_restart_forgets_every_session(mut ground: Ground) {
    // On SQLite every start deletes the file. On PostgreSQL other nodes go on, so rows stay: for their 60 seconds, and
    // sealed under bytes that only the device has.
    let url = ground.beside("kept");
    let first = kept(&url, Caps::default()).await;
    let row = session(1);
    let resume = first.put(&row, b"state", ground.entropy(), NOW).await.unwrap();
    let ahead = session(2);
    let ahead_resume = first.put_ahead(&ahead, b"state", ground.entropy(), NOW).await.unwrap();
    first.close().await;
    let copy = url.strip_prefix("sqlite:").map(|path| (path.to_owned(), std::fs::read(path).unwrap()));
    let second = kept(&url, Caps::default()).await;
    match copy {
        Some((path, copy)) => {
            unknown(second.take(&claim(&row), &resume, NOW).await);
            unknown(second.take(&claim(&ahead), &ahead_resume, NOW).await);
            second.close().await;
            // An operator who puts the old file back gains nothing: the next start deletes it too.
            std::fs::write(&path, copy).unwrap();
            let third = kept(&url, Caps::default()).await;
            unknown(third.take(&claim(&row), &resume, NOW).await);
        }
        None => {
            let late = second.take(&claim(&row), &resume, NOW + KEPT_LIFE_MS).await;
            assert!(matches!(late, Err(Error::Expired(What::Session))));
            let text = "SELECT COUNT(*) FROM pg_class WHERE relname = 'kept' AND relpersistence = 'u'";
            let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
            let unlogged: i64 = sqlx::query_scalar(text).fetch_one(&mut connection).await.unwrap();
            assert_eq!(unlogged, 1, "no log, so no replica and no recovery has it");
        }
    }
}

async fn run(url: &str, text: &str) {
    let text = sqlx::AssertSqlSafe(text.to_owned());
    if let Some(path) = url.strip_prefix("sqlite:") {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        assert_eq!(sqlx::query(text).execute(&mut connection).await.unwrap().rows_affected(), 1);
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        assert_eq!(sqlx::query(text).execute(&mut connection).await.unwrap().rows_affected(), 1);
    }
}
